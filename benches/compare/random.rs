//! Random numbers, as fast as a load generator needs them.

use threads_identity::secret;

/// xorshift64*, by Vigna.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(u64::from_ne_bytes(secret::random()) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
