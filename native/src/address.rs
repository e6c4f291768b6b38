//! Where the server is.

use anyhow::{Result, bail};

/// A server's address, by which its HTTP interface and its socket are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    http: String,
    socket: String,
}

impl Address {
    /// Reads what the operator has typed.
    ///
    /// # Errors
    /// Anything but plain http.
    pub(crate) fn new(url: &str) -> Result<Address> {
        let http = url.trim_end_matches('/').to_owned();
        match http.strip_prefix("http://") {
            Some(rest) if !rest.is_empty() => Ok(Address {
                socket: format!("ws://{rest}/ws"),
                http,
            }),
            _ => bail!("{url}: give an address such as http://127.0.0.1:8000 (https is not supported yet)"),
        }
    }

    /// The address of what is at `path`, which begins with a slash.
    pub(crate) fn of(&self, path: &str) -> String {
        format!("{}{path}", self.http)
    }

    /// Where volunteers connect.
    pub(crate) fn socket(&self) -> &str {
        &self.socket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_the_server_prints_leads_to_its_interface_and_its_socket() {
        for url in ["http://127.0.0.1:8000", "http://127.0.0.1:8000/"] {
            let address = Address::new(url).unwrap();
            assert_eq!(address.of("/api/v1/run"), "http://127.0.0.1:8000/api/v1/run");
            assert_eq!(address.socket(), "ws://127.0.0.1:8000/ws");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_is_named() {
        for url in ["https://example.org", "ftp://example.org", "http://", "127.0.0.1:8000"] {
            assert!(Address::new(url).unwrap_err().to_string().starts_with(url), "{url}");
        }
    }
}
