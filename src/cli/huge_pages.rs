//! Huge pages, which make a small process large.

/// Goes without them in this process, which should be asked before it has used much
/// memory. The allocator asks for them, and then a few hundred kilobytes in each of
/// several arenas take two megabytes each: measured, a third of an idle service, and
/// reads were as fast without. Where the system does not let us, memory is used as
/// before.
pub(super) fn forgo() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
