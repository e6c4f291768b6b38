//! The pages and the wasm package, embedded in the binary as `cargo xtask web` has made them.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/../target/web"]
struct Assets;

/// Pages that have an address without an ending.
const PAGES: [(&str, &str); 2] = [("", "index.html"), ("simulator", "simulator.html")];

/// The file that the path names, or the page.
pub(crate) async fn asset(request: Request) -> Response<Body> {
    let path = request.uri().path().trim_start_matches('/');
    let page = PAGES.iter().find(|(address, _)| *address == path);
    let path = page.map_or(path, |(_, file)| *file);
    let (file, encoding) = match Assets::get(&format!("{path}.br")) {
        Some(file) if accepts(request.headers(), "br") => (Some(file), Some("br")),
        _ => (Assets::get(path), None),
    };
    let Some(file) = file else {
        return (StatusCode::NOT_FOUND, "there is no such page here\n").into_response();
    };
    // The files of one binary never change, but another binary may answer at the same address tomorrow.
    let tag = file.metadata.sha256_hash()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    let tag = format!("\"{tag}\"");
    let is_known = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        (StatusCode::OK, file.data).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// Whether the browser takes this content encoding.
pub(crate) fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING);
    accepted
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding));
            let is_refused = parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
            is_named && !is_refused
        })
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_used_only_where_it_is_accepted() {
        let accepted = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            accepts(&headers, "br")
        };
        assert!(accepted("gzip, deflate, br, zstd"));
        assert!(accepted("BR;q=0.5"));
        assert!(!accepted("gzip"));
        assert!(!accepted("br;q=0, gzip"));
        assert!(!accepts(&HeaderMap::new(), "br"));
    }

    #[test]
    fn the_pages_and_the_wasm_packages_are_in_the_binary() {
        for path in [
            "index.html",
            "page.js",
            "simulator.html",
            "vendor/uPlot.esm.js",
            "wasm/client_wasm_bg.wasm.br",
            "simulator/simulator_wasm_bg.wasm.br",
        ] {
            assert!(Assets::get(path).is_some(), "{path} is missing: run `cargo xtask web`");
        }
    }
}
