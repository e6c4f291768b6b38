//! The proofs of sessions.

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::protocol::message::{SessionId, Token};

/// The key of a run's tokens. A token follows from the key and the session's number, so that a server that restarts can
/// check the token of a session that no checkpoint knows yet. Who does not have the key can guess no token: it is a
/// word of the ChaCha20 stream of this key that the session's number selects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenKey(pub [u8; 32]);

impl TokenKey {
    /// The token of a session.
    pub fn token(&self, session: SessionId) -> Token {
        let mut stream = ChaCha20Rng::from_seed(self.0);
        stream.set_stream(session.0);
        Token(stream.next_u64())
    }
}

/// The key is a secret: it is printed nowhere.
impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_token_is_the_same_again_and_no_two_sessions_or_keys_share_one() {
        let keys = [TokenKey([1; 32]), TokenKey([2; 32])];
        let sessions = (0..500).chain((1 << 32)..(1 << 32) + 500);
        let tokens: Vec<u64> = sessions
            .flat_map(|session| keys.map(|key| key.token(SessionId(session)).0))
            .collect();
        let different: BTreeSet<u64> = tokens.iter().copied().collect();
        assert_eq!(different.len(), 2000);
        assert_eq!(keys[0].token(SessionId(0)).0, tokens[0]);
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", TokenKey([0xab; 32])), "TokenKey(…)");
    }
}
