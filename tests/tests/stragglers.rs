//! Three tabs of one ML module each, of which one may use a tenth of the processor time of the others.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::browser::Browser;
use tests::driver::Driver;
use tests::run_file::{DIGITS_MINIBATCH, RunText};
use tests::server::{Serve, Server, Volunteer, whole};
use tests::tab::Tab;
use tests::wait::{wait_for, wait_until};

/// In percent. The slow tab is the last one; together they leave something of two cores.
const CPU_PERCENTS: [u8; 3] = [60, 60, 6];
const SLOW: usize = 2;
/// How much the slow tab contributes while the three are compared: over a hundred minibatches.
const SAMPLES_OF_THE_SLOW_TAB: u64 = 2_000;

#[test]
fn a_tab_ten_times_slower_holds_no_tab_up_and_all_that_it_computes_is_in_the_model() -> Result<()> {
    let mut server = Serve::kiosk().run(RunText::digits()?).start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tabs = open_tabs(&server, &driver)?;
    let gains = gains_while_the_slow_one_contributes(&server, SAMPLES_OF_THE_SLOW_TAB)?;
    for fast in 0..SLOW {
        let ratio = gains[fast] as f64 / gains[SLOW] as f64;
        // A busy machine takes its time from some more than from others.
        ensure!(
            (10.0 / 3.0..30.0).contains(&ratio),
            "ten times the processor time came to {ratio} times the samples: {gains:?}"
        );
    }
    // A tab that has waited for its first samples only has a share that becomes smaller and smaller.
    wait_until("small shares of waiting", || {
        Ok(volunteers(&server)?.iter().all(|volunteer| volunteer.waiting < 0.05))
    })?;

    for tab in &tabs {
        tab.press("pause")?;
        tab.wait_for_state("paused")?;
    }
    let computed = wait_for_all_to_be_counted(&server, &tabs)?;
    let volunteers = volunteers(&server)?;
    ensure!(
        volunteers.iter().all(|volunteer| volunteer.refused == 0),
        "something was refused: {volunteers:?}"
    );
    driver.expect_no_console_errors()?;
    ensure!(server.stop()?.success());
    let summary: Value = serde_json::from_slice(&std::fs::read(server.out().join("summary.json"))?)?;
    ensure!(
        whole(&summary, "samples_in_model")? == computed && whole(&summary["status"], "contributions_refused")? == 0,
        "{computed} samples were computed, but {summary:#}"
    );
    Ok(())
}

#[test]
fn in_lockstep_the_slow_tab_holds_the_others_up() -> Result<()> {
    let run = RunText::digits()?.with("[training]\n", "[training]\nmode = \"lockstep\"\n")?;
    let server = Serve::kiosk().run(run).start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let _tabs = open_tabs(&server, &driver)?;
    let gains = gains_while_the_slow_one_contributes(&server, SAMPLES_OF_THE_SLOW_TAB)?;
    for fast in 0..SLOW {
        // A minibatch each for every version; one look may fall between two of them.
        ensure!(
            gains[fast].abs_diff(gains[SLOW]) <= 2 * DIGITS_MINIBATCH,
            "not a minibatch each: {gains:?}"
        );
    }
    wait_until("the fast tabs to wait for most of the time", || {
        Ok(volunteers(&server)?[..SLOW]
            .iter()
            .all(|volunteer| volunteer.waiting > 0.5))
    })?;
    driver.expect_no_console_errors()
}

/// One after the other, so that the order of their sessions is that of their cpu_percents.
fn open_tabs<'driver>(server: &Server, driver: &'driver Driver) -> Result<Vec<Tab<'driver>>> {
    let tabs = CPU_PERCENTS.iter().enumerate().map(|(already, percent)| {
        let tab = Tab::open(driver, &server.joining_url_with_cpu_percent(1, *percent))?;
        server.wait_for_contributors(already + 1)?;
        Ok(tab)
    });
    tabs.collect()
}

/// The volunteers, in the order in which they joined.
fn volunteers(server: &Server) -> Result<[Volunteer; CPU_PERCENTS.len()]> {
    let mut volunteers = server.volunteers()?;
    volunteers.sort_by_key(|volunteer| volunteer.id);
    let found = format!("{volunteers:?}");
    volunteers
        .try_into()
        .ok()
        .with_context(|| format!("not one volunteer for each tab: {found}"))
}

/// What each contributes while the slow one contributes `samples`.
fn gains_while_the_slow_one_contributes(server: &Server, samples: u64) -> Result<[u64; CPU_PERCENTS.len()]> {
    let before = volunteers(server)?;
    wait_for("the slow tab's contributions", || {
        let now = volunteers(server)?;
        let gains = std::array::from_fn(|index| now[index].samples - before[index].samples);
        Ok((gains[SLOW] >= samples).then_some(gains))
    })
}

/// Waits until the tabs, which have paused, and the server count the same samples, of each and of all, and at rest: a
/// moment in which numbers that still move are equal is no agreement.
fn wait_for_all_to_be_counted(server: &Server, tabs: &[Tab<'_>]) -> Result<u64> {
    /// Tabs report to their page more often than this.
    const AT_REST_SECONDS: f64 = 1.0;
    let mut agreed_since: Option<(f64, Vec<u64>)> = None;
    wait_for("the tabs and the server to count the same", || {
        let status = server.status()?;
        let elapsed = status["elapsed_seconds"].as_f64().context("elapsed_seconds")?;
        let counted: Vec<u64> = volunteers(server)?.map(|volunteer| volunteer.samples).to_vec();
        let computed = tabs.iter().map(|tab| Ok(tab.look()?.modules.iter().sum()));
        let computed = computed.collect::<Result<Vec<u64>>>()?;
        let samples = whole(&status, "samples")?;
        let agree = counted == computed && counted.iter().sum::<u64>() == samples;
        agreed_since = match agreed_since.take() {
            _ if !agree => None,
            Some((since, agreed)) if agreed == counted => Some((since, agreed)),
            _ => Some((elapsed, counted)),
        };
        let is_at_rest = |(since, _): &(f64, _)| elapsed - since >= AT_REST_SECONDS;
        Ok(agreed_since.as_ref().is_some_and(is_at_rest).then_some(samples))
    })
}
