//! SIGHUP: an operator asks for a look at once.

/// The signals by which an operator asks for a look at once.
pub(super) struct Hangups(#[cfg(unix)] Option<tokio::signal::unix::Signal>);

impl Hangups {
    /// Listens from now on; until then the signal ends the process.
    pub(super) fn listen() -> Self {
        Self(
            #[cfg(unix)]
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
        )
    }

    /// Hears nothing.
    pub(super) fn none() -> Self {
        Self(
            #[cfg(unix)]
            None,
        )
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
