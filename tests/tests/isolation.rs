//! Shared memory, and what stands in its way.

use anyhow::{Context, Result, ensure};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::http::{agent, get};
use tests::server::{ISOLATION, Serve};
use tests::tab::Tab;

#[test]
fn every_response_isolates_the_page() -> Result<()> {
    let server = Serve::default().start()?;
    let description = server.ask("run")?;
    let shard = description["dataset"]["shards"][0]
        .as_str()
        .context("a shard")?
        .to_owned();
    let shard = format!("/api/v1/shards/{shard}");
    // Found, not found, not allowed: and the socket's address, asked for without the upgrade to a socket.
    let paths = [
        ("/", 200),
        ("/page.js", 200),
        ("/bsp-worker.js", 200),
        ("/ml-worker.js", 200),
        ("/wasm/client_wasm.js", 200),
        ("/wasm/client_wasm_bg.wasm", 200),
        ("/icon.svg", 200),
        ("/api/v1/run", 200),
        ("/api/v1/status", 200),
        ("/api/v1/model.safetensors", 200),
        (&*shard, 200),
        ("/healthz", 200),
        ("/nothing-here.js", 404),
        ("/api/v1/shards/nothing", 404),
        ("/ws", 400),
    ];
    for (path, status) in paths {
        let response = get(&format!("{}{path}", server.url()))?;
        ensure!(response.status() == status, "{path}: {}", response.status());
        for (name, value) in ISOLATION {
            ensure!(
                response.headers().get(name).is_some_and(|is| is == value),
                "{path}: no {name}: {value}"
            );
        }
    }
    let response = agent().post(format!("{}/healthz", server.url())).send_empty()?;
    ensure!(response.status() == 405, "{}", response.status());
    for (name, value) in ISOLATION {
        ensure!(
            response.headers().get(name).is_some_and(|is| is == value),
            "405: no {name}: {value}"
        );
    }
    Ok(())
}

#[test]
fn page_and_workers_are_isolated() -> Result<()> {
    let server = Serve::kiosk().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    let view = tab.wait_for_state("training")?;
    ensure!(view.isolated == "true", "{view:#?}");
    // Memory that an isolated page shares with a worker reaches it only if the worker is isolated too; gradients are
    // then computed in it.
    server.wait_for_contributors(1)?;
    let workers = tab.evaluate_in_workers("bsp-worker.js", "self.crossOriginIsolated")?;
    ensure!(
        workers == [serde_json::Value::Bool(true)],
        "the BSP worker says {workers:?}"
    );
    driver.expect_no_console_errors()
}

#[test]
fn a_page_that_cannot_share_memory_says_why_and_what_to_do() -> Result<()> {
    let server = Serve::kiosk().start()?;
    // As on another machine of the network: a name that isn't this machine's own, over http.
    let host = "lan.test";
    let driver = Driver::start_with_hosts(Browser::Chromium, &[host])?;
    let origin = format!("http://{host}:{}", server.address().port());
    let tab = Tab::open(&driver, &format!("{origin}/?join=1&workers=1"))?;
    let view = tab.wait_until("the run", |view| view.number("volunteers").is_some())?;
    ensure!(
        view.isolated == "false" && view.states.iter().all(|state| state == "unsupported"),
        "{view:#?}"
    );
    let said = tab.text("unsupported")?;
    for words in [
        &*origin,
        "is not secure",
        "https://",
        &format!("http://localhost:{}/", server.address().port()),
    ] {
        ensure!(said.contains(words), "{words:?} is not in {said:?}");
    }
    ensure!(!tab.is_enabled("start")?, "the button can be pressed");
    ensure!(server.volunteers()?.is_empty(), "{:?}", server.volunteers()?);
    Ok(())
}
