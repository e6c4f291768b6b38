//! The training data as volunteers fetch it: shards under immutable names, gzipped once, in the background.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, OnceLock};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use nn::data::shard::Shard;

use crate::assets::accepts;

/// All shards of a run.
pub(crate) struct Shards {
    names: Vec<String>,
    by_name: HashMap<String, EncodedShard>,
}

struct EncodedShard {
    plain: Bytes,
    /// Once it is made; until then the plain one is sent.
    gzipped: OnceLock<Bytes>,
}

impl Shards {
    /// Encodes shards, once.
    pub(crate) fn new(shards: &[Shard]) -> Shards {
        let names: Vec<String> = shards.iter().map(Shard::name).collect();
        let encoded = shards.iter().map(|shard| EncodedShard {
            plain: shard.encode().into(),
            gzipped: OnceLock::new(),
        });
        Shards {
            by_name: names.iter().cloned().zip(encoded).collect(),
            names,
        }
    }

    /// Gzips all shards, one after the other, on a thread of its own. Each takes milliseconds; a thread that serves
    /// sockets would serve nobody meanwhile.
    pub(crate) fn gzip_in_background(self: &Arc<Self>) -> std::io::Result<()> {
        let shards = Arc::clone(self);
        let body = move || {
            for shard in shards.names.iter().filter_map(|name| shards.by_name.get(name)) {
                shard.gzipped.get_or_init(|| gzip(&shard.plain));
            }
        };
        std::thread::Builder::new().name("gzip".to_owned()).spawn(body)?;
        Ok(())
    }

    /// The names, in the order in which volunteers number them.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The shard of this name, as an HTTP response. It never changes, so a browser needs it once.
    pub(crate) fn response(&self, name: &str, headers: &HeaderMap) -> Response {
        let Some(shard) = self.by_name.get(name) else {
            return (StatusCode::NOT_FOUND, "there is no such shard in this run\n").into_response();
        };
        let gzipped = shard.gzipped.get().filter(|_| accepts(headers, "gzip"));
        let mut response = gzipped.unwrap_or(&shard.plain).clone().into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=31536000, immutable"),
        );
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if gzipped.is_some() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

fn gzip(plain: &Bytes) -> Bytes {
    // The fastest level: images gain little by more.
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 2), Compression::fast());
    match encoder.write_all(plain).and_then(|()| encoder.finish()) {
        Ok(gzipped) => gzipped.into(),
        // Writing into memory does not fail.
        Err(error) => unreachable!("{error}"),
    }
}
