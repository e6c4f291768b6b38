//! From opening the page to the first gradient that the server has accepted, on localhost; and the wasm package's size.

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::program::root;
use tests::run_file::RunText;
use tests::server::Serve;
use tests::tab::Tab;

const TIMES: usize = 7;
/// What the median is to stay below.
const MOST_SECONDS: f64 = 0.6;
const LOOK_AGAIN: Duration = Duration::from_millis(5);

pub(crate) fn measure() -> Result<String> {
    let mut seconds = Vec::new();
    for _ in 0..TIMES {
        let mut server = Serve::kiosk()
            .run(RunText::read(&root().join("runs/fashion-mnist.toml"))?)
            .start()?;
        let driver = Driver::start(Browser::Chromium)?;
        let tab = Tab::open(&driver, &server.joining_url(1))?;
        while server.samples()? == 0 {
            sleep(LOOK_AGAIN);
        }
        let first = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        // When the browser began to open the page, by the same clock.
        let opened = tab.execute("return performance.timeOrigin / 1000")?;
        seconds.push(first - opened.as_f64().context("the page's time origin")?);
        server.kill()?;
    }
    seconds.sort_by(f64::total_cmp);
    let wasm = root().join("target/web/wasm/client_wasm_bg.wasm");
    let plain = std::fs::metadata(&wasm)?.len();
    let compressed = std::fs::metadata(wasm.with_extension("wasm.br"))?.len();
    Ok(format!(
        "## Opening the page\n\n| measure | figure |\n|---|---|\n\
         | page open to the first accepted gradient, `runs/fashion-mnist.toml`, median of {TIMES} (worst); at most \
         {MOST_SECONDS} s | {:.2} s ({:.2} s) |\n\
         | wasm, brotli; build/sizes.sh has the limit | {:.0} KiB ({:.0} KiB plain) |\n",
        seconds[TIMES / 2],
        seconds[TIMES - 1],
        compressed as f64 / 1024.0,
        plain as f64 / 1024.0,
    ))
}
