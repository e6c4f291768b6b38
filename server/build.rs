//! Embeds the pages anew when they have changed, and says what to do where they were never made.

fn main() {
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/web");
    println!("cargo:rerun-if-changed={pages}");
    if !std::path::Path::new(pages).join("index.html").exists() {
        println!(
            "cargo:error=the pages that the server embeds are not there: run `make build`, or `cargo xtask web` first"
        );
    }
}
