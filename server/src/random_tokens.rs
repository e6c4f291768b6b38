//! Numbers that no peer can guess.

use bsp::protocol::message::Token;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// A source of numbers that no peer can guess: a cipher whose key the system has chosen. So the system is asked once,
/// where it is early enough to say that it has none, and not for every frame.
pub(crate) struct RandomTokens(ChaCha20Rng);

impl RandomTokens {
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn from_system() -> std::io::Result<RandomTokens> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| {
            std::io::Error::other(format!("the system gives no random numbers for secrets: {error}"))
        })?;
        Ok(RandomTokens(ChaCha20Rng::from_seed(key)))
    }

    /// The next one.
    pub(crate) fn draw(&mut self) -> Token {
        Token(self.0.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_tokens_are_alike_within_a_source_or_between_two() {
        let mut sources = [
            RandomTokens::from_system().unwrap(),
            RandomTokens::from_system().unwrap(),
        ];
        let tokens: BTreeSet<u64> = (0..1000).map(|number| sources[number % 2].draw().0).collect();
        assert_eq!(tokens.len(), 1000);
    }
}
