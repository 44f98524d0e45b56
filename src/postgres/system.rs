//! Every system call that std has no safe form of; the only unsafe code there is.
//!
//! Four small functions with safe signatures.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Says which user this process acts as.
pub(super) fn effective_user() -> u32 {
    // SAFETY: no arguments, no memory, cannot fail.
    unsafe { libc::geteuid() }
}

/// Asks a Postgres server to end its sessions and stop: what it calls a fast shutdown.
///
/// Sent to a process that has ended, it does nothing, so the caller must know that the number is not
/// somebody else's by now.
pub(super) fn interrupt(pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: takes no memory; an unknown process is only an error code.
        unsafe { libc::kill(pid, libc::SIGINT) };
    }
}

/// Binds the life of the command's process to that of the thread that spawns it (where the system
/// can), and puts it into a user namespace of its own first, if asked.
///
/// In there it is an ordinary user, while its files remain this user's. The kernel watches the
/// *thread*, so whoever spawns must stay until the process has ended.
pub(super) fn bind(command: &mut Command, namespace: bool) {
    let parent = std::process::id();
    // Made here: between fork and exec nothing may be allocated.
    let maps = namespace.then(Maps::of_this_user);
    // SAFETY: the closure runs between fork and exec, perhaps while another thread of the parent
    // held a lock. It makes system calls only: no allocation, no locks, no destructor.
    unsafe {
        command.pre_exec(move || {
            if let Some(maps) = &maps {
                maps.enter()?;
            }
            // After the namespace and after std's setuid: a change of user clears the signal.
            die_with(parent)
        });
    }
}

/// The lines that make one outer user and group an ordinary user and group inside.
struct Maps {
    user: String,
    group: String,
}

impl Maps {
    fn of_this_user() -> Self {
        // SAFETY: no arguments, no memory, cannot fail.
        let group = unsafe { libc::getegid() };
        Self { user: format!("1000 {} 1", effective_user()), group: format!("1000 {group} 1") }
    }

    /// Moves the calling process into a new user namespace.
    #[cfg(target_os = "linux")]
    fn enter(&self) -> io::Result<()> {
        // SAFETY: takes no memory; the process has one thread, being just forked.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // The kernel takes a group map from the process itself only after it gave up setgroups.
        write_file(c"/proc/self/setgroups", b"deny")?;
        write_file(c"/proc/self/uid_map", self.user.as_bytes())?;
        write_file(c"/proc/self/gid_map", self.group.as_bytes())
    }

    #[cfg(not(target_os = "linux"))]
    fn enter(&self) -> io::Result<()> {
        let _ = (&self.user, &self.group);
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }
}

/// Writes a file of `/proc` in one piece, without allocating.
#[cfg(target_os = "linux")]
fn write_file(path: &std::ffi::CStr, content: &[u8]) -> io::Result<()> {
    // SAFETY: the path ends in a NUL; pointer and length are one slice's; the descriptor is ours.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        let written = libc::write(file, content.as_ptr().cast(), content.len());
        let outcome = if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        libc::close(file);
        outcome
    }
}

/// Has the kernel interrupt the calling process when the thread that forked it ends.
#[cfg(target_os = "linux")]
fn die_with(parent: u32) -> io::Result<()> {
    // The kernel reads a whole word.
    let signal = libc::c_ulong::from(libc::SIGINT.cast_unsigned());
    // SAFETY: they take no memory.
    let (set, now) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, signal), libc::getppid()) };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    // The parent may have died before the kernel was told: then nobody will ever send the signal.
    if u32::try_from(now) != Ok(parent) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "the same form as where it can be had")]
fn die_with(_parent: u32) -> io::Result<()> {
    Ok(())
}

/// Says how many bytes are free in the directory's file system.
#[cfg(target_os = "linux")]
pub(super) fn free_space(dir: &std::ffi::CStr) -> Option<u64> {
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends in a NUL, and the result is read only after it has been filled.
    let found = unsafe {
        if libc::statvfs(dir.as_ptr(), found.as_mut_ptr()) != 0 {
            return None;
        }
        found.assume_init()
    };
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}
