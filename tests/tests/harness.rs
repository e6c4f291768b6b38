//! The other tests fail only because of what is seen here.

use anyhow::{Result, ensure};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::server::Serve;
use tests::tab::Tab;
use tests::wait::wait_until;

#[test]
fn errors_of_page_and_workers_are_seen() -> Result<()> {
    let server = Serve::kiosk().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    tab.wait_for_state("training")?;
    driver.expect_no_console_errors()?;
    let expect_seen = |words: &str| {
        let is_seen = || Ok(driver.console_errors()?.iter().any(|error| error.contains(words)));
        wait_until(&format!("{words:?} on the console"), is_seen)
    };
    tab.execute("console.error('said by the page')")?;
    expect_seen("said by the page")?;
    tab.execute("setTimeout(() => { throw new Error('thrown by the page') })")?;
    expect_seen("thrown by the page")?;
    tab.execute("fetch('./not-here')")?;
    expect_seen("not-here")?;
    let in_worker = |script| tab.evaluate_in_workers("bsp-worker.js", script);
    ensure!(
        in_worker("console.error('said by a worker')")?.len() == 1,
        "there is not one BSP worker"
    );
    expect_seen("said by a worker")?;
    // The page ends a worker that throws, and says so itself.
    in_worker("setTimeout(() => { throw new Error('thrown by a worker') })")?;
    tab.wait_for_state("failed")?;
    let said = tab.text("state-detail")?;
    ensure!(said.contains("thrown by a worker"), "the page says {said:?}");
    Ok(())
}
