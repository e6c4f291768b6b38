//! The training data as volunteers fetch it: shards under immutable names, gzipped once.

use std::collections::HashMap;
use std::io::Write;
use std::sync::OnceLock;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use nn::shard::Shard;

use crate::assets::accepts;

/// All shards of a run.
pub(crate) struct Shards {
    names: Vec<String>,
    by_name: HashMap<String, EncodedShard>,
}

struct EncodedShard {
    plain: Bytes,
    /// Made at the first request that accepts it.
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

    /// The names, in the order in which volunteers number them.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The shard of this name, as an HTTP response. It never changes, so a browser needs it once.
    pub(crate) fn response(&self, name: &str, headers: &HeaderMap) -> Response {
        let Some(shard) = self.by_name.get(name) else {
            return (StatusCode::NOT_FOUND, "there is no such shard in this run\n").into_response();
        };
        let is_gzipped = accepts(headers, "gzip");
        let bytes = if is_gzipped {
            shard.gzipped.get_or_init(|| gzip(&shard.plain)).clone()
        } else {
            shard.plain.clone()
        };
        let mut response = bytes.into_response();
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
        if is_gzipped {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

fn gzip(plain: &Bytes) -> Bytes {
    // The fastest level: a volunteer waits for its first shard, and images gain little by more.
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 2), Compression::fast());
    match encoder.write_all(plain).and_then(|()| encoder.finish()) {
        Ok(gzipped) => gzipped.into(),
        // Writing into memory does not fail.
        Err(error) => unreachable!("{error}"),
    }
}
