pub mod clock;
pub mod error;
pub mod ids;
pub mod proto;
pub mod sealing;
pub mod secret;
