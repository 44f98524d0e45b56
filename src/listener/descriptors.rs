//! How many files this process may have open: a connection is one.

#[cfg(unix)]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is kept for the database, calls to Threads, listeners and files.
const RESERVE: usize = 128;

/// Raises what this process allows itself to what the system allows it. Most systems
/// begin with 1,024, for the sake of programs from the time before `poll`.
pub fn raise() {
    #[cfg(unix)]
    {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current.is_some_and(|current| maximum.is_none_or(|maximum| current < maximum)) {
            // Not granted: it stays as it was, and the connections are fitted to it.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        }
    }
}

/// How many may be open.
fn allowed() -> usize {
    #[cfg(unix)]
    let allowed = getrlimit(Resource::Nofile).current;
    #[cfg(not(unix))]
    let allowed: Option<u64> = None;
    allowed.map_or(usize::MAX, |allowed| usize::try_from(allowed).unwrap_or(usize::MAX))
}

/// Fits wishes for connections into what may be open, all by the same factor.
#[must_use]
pub fn fit<const N: usize>(wishes: [usize; N]) -> [usize; N] {
    let allowed = allowed();
    let fitted = fit_into(allowed, wishes);
    if fitted != wishes {
        tracing::warn!(
            open_files_max = allowed,
            connections = ?fitted,
            "fewer connections are let in than configured, because too few files may be open: raise that \
             limit (LimitNOFILE of systemd, `ulimit -n`)"
        );
    }
    fitted
}

fn fit_into<const N: usize>(allowed: usize, wishes: [usize; N]) -> [usize; N] {
    let room = allowed.saturating_sub(RESERVE).max(allowed / 4);
    let wanted: usize = wishes.iter().fold(0, |sum, wish| sum.saturating_add(*wish));
    if wanted <= room { wishes } else { wishes.map(|wish| (wish * room / wanted).max(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_what_may_be_open() {
        assert_eq!(fit_into(usize::MAX, [2000, 500, 64]), [2000, 500, 64]);
        assert_eq!(fit_into(4096, [2000, 500, 64]), [2000, 500, 64]);
        let fitted = fit_into(1024, [2000, 500, 64]);
        assert!(fitted.iter().sum::<usize>() <= 1024 - RESERVE && fitted[0] > 600, "{fitted:?}");
        let fitted = fit_into(256, [2000, 500, 64]);
        assert!(fitted.iter().sum::<usize>() <= 256 - RESERVE && fitted[2] >= 1, "{fitted:?}");
        assert!(fit_into(16, [2000, 500, 64]).iter().all(|max| *max >= 1));
    }
}
