//! Core dumps, which would hold every secret that the process has in memory.

/// Forbids them for this process, and with them that another process of the same
/// user attaches to it or reads its memory. Where the system refuses, that is logged
/// and the process goes on.
pub(super) fn forbid() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};

        let none = Rlimit { current: Some(0), maximum: Some(0) };
        if let Err(error) = setrlimit(Resource::Core, none) {
            tracing::warn!("core dumps cannot be limited: {error}");
        }
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};

        // The limit alone does not hold where core dumps go to a program (core(5)).
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!("core dumps cannot be forbidden: {error}");
        }
    }
}
