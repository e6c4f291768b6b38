//! Numbers that no peer can guess.

use bsp::protocol::message::Token;

/// A number that no peer can guess, from the system's randomness.
///
/// # Panics
/// Where the system has none, which a running Linux always has: a session without a secret must not begin.
pub(crate) fn random_token() -> Token {
    match getrandom::u64() {
        Ok(number) => Token(number),
        Err(error) => panic!("the system gives no random numbers: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_tokens_are_alike() {
        let tokens: BTreeSet<u64> = (0..1000).map(|_| random_token().0).collect();
        assert_eq!(tokens.len(), 1000);
    }
}
