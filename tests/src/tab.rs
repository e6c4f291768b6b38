//! A page of a server in a browser's window.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;
use thirtyfour::{By, WindowHandle};

use crate::driver::Driver;
use crate::wait::wait_for;

/// Keeps every state that the page goes through: some are short. The page may write the same one again.
const KEEP_STATES: &str = "
    const { dataset } = document.body;
    const states = (window.statesOfTest = [dataset.state]);
    const keep = () => dataset.state === states.at(-1) || states.push(dataset.state);
    new MutationObserver(keep).observe(document.body, { attributeFilter: ['data-state'] });
";

/// Everything that tests look at, in one moment.
const LOOK: &str = "
    const numbers = [...document.querySelectorAll('[id][data-value]')]
        .map(({ id, dataset }) => [id, dataset.value === '' ? null : Number(dataset.value)]);
    return {
        state: document.body.dataset.state,
        states: window.statesOfTest ?? [],
        isolated: document.body.dataset.isolated ?? '',
        server: document.body.dataset.server ?? '',
        numbers: Object.fromEntries(numbers),
        modules: [...document.querySelectorAll('#modules [data-value]')].map(({ dataset }) => Number(dataset.value)),
    };
";

/// An open page.
pub struct Tab<'driver> {
    driver: &'driver Driver,
    window: WindowHandle,
}

/// What a page shows in one moment.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct View {
    /// What it does, in one word.
    pub state: String,
    /// What it has done, in order, since it was opened.
    pub states: Vec<String>,
    /// `true` if the browser gives it shared memory.
    pub isolated: String,
    /// Whether the server is `reachable`.
    pub server: String,
    /// The numbers that it shows, by the id of their element.
    pub numbers: BTreeMap<String, Option<f64>>,
    /// Samples of each ML module.
    pub modules: Vec<u64>,
}

impl View {
    /// The number in the element with this id, if one is shown there.
    pub fn number(&self, id: &str) -> Option<f64> {
        self.numbers.get(id).copied().flatten()
    }
}

impl<'driver> Tab<'driver> {
    /// Opens a page in a window of its own.
    ///
    /// # Errors
    /// A page that does not load.
    pub fn open(driver: &'driver Driver, url: &str) -> Result<Tab<'driver>> {
        Tab::open_after(driver, url, "")
    }

    /// The same, where `script` runs before the page's own.
    ///
    /// # Errors
    /// A page that does not load.
    pub fn open_after(driver: &'driver Driver, url: &str, script: &str) -> Result<Tab<'driver>> {
        let window = driver.open_window(script)?;
        driver.run(driver.in_window(&window)?.goto(url))?;
        let tab = Tab { driver, window };
        tab.execute(KEEP_STATES)?;
        Ok(tab)
    }

    /// What `expression` is in each of its workers that run this script.
    ///
    /// # Errors
    /// A browser without developer tools, or an expression that fails.
    pub fn evaluate_in_workers(&self, script: &str, expression: &str) -> Result<Vec<serde_json::Value>> {
        self.driver
            .dev_tools(&self.window)?
            .evaluate_in_workers(script, expression)
    }

    /// What the page shows now.
    ///
    /// # Errors
    /// A page that is gone.
    pub fn look(&self) -> Result<View> {
        Ok(serde_json::from_value(self.execute(LOOK)?)?)
    }

    /// Runs a script in the page, and gives what it returns.
    ///
    /// # Errors
    /// A script that fails.
    pub fn execute(&self, script: &str) -> Result<serde_json::Value> {
        let web_driver = self.driver.in_window(&self.window)?;
        Ok(self.driver.run(web_driver.execute(script, Vec::new()))?.json().clone())
    }

    /// Waits until the page shows what `is_shown` says.
    ///
    /// # Errors
    /// A page that does not; the error says what it showed instead.
    pub fn wait_until(&self, what: &str, is_shown: impl Fn(&View) -> bool) -> Result<View> {
        let mut last = None;
        let found = wait_for(&format!("a page that shows {what}"), || {
            let view = self.look()?;
            let is_so = is_shown(&view);
            last = Some(view.clone());
            Ok(is_so.then_some(view))
        });
        found.with_context(|| format!("the page shows {last:#?}"))
    }

    /// Waits until the page is in this state.
    ///
    /// # Errors
    /// As [`Tab::wait_until`].
    pub fn wait_for_state(&self, state: &str) -> Result<View> {
        self.wait_until(&format!("the state {state}"), |view| view.state == state)
    }

    /// Presses the button with this id as a person does: it must be there to be seen.
    ///
    /// # Errors
    /// A button that can't be pressed.
    pub fn press(&self, id: &str) -> Result<()> {
        let web_driver = self.driver.in_window(&self.window)?;
        let button = self.driver.run(web_driver.find(By::Id(id)))?;
        self.driver.run(button.click()).with_context(|| format!("#{id}"))
    }

    /// The text that a reader sees in the element with this id; empty where it is hidden.
    ///
    /// # Errors
    /// An element that is not there.
    pub fn text(&self, id: &str) -> Result<String> {
        let web_driver = self.driver.in_window(&self.window)?;
        let element = self.driver.run(web_driver.find(By::Id(id)))?;
        self.driver.run(element.text())
    }

    /// Whether the element with this id can be pressed.
    ///
    /// # Errors
    /// An element that is not there.
    pub fn is_enabled(&self, id: &str) -> Result<bool> {
        let web_driver = self.driver.in_window(&self.window)?;
        let element = self.driver.run(web_driver.find(By::Id(id)))?;
        self.driver.run(element.is_enabled())
    }

    /// Freezes the page and its workers, as a browser does in the background, or lets them go on.
    ///
    /// # Errors
    /// A browser without developer tools.
    pub fn set_frozen(&self, is_frozen: bool) -> Result<()> {
        let state = if is_frozen { "frozen" } else { "active" };
        let web_driver = self.driver.in_window(&self.window)?;
        let parameters = json!({ "state": state });
        let command = web_driver.cdp();
        self.driver
            .run(command.send_raw("Page.setWebLifecycleState", parameters))?;
        Ok(())
    }

    /// A picture of the page as a reader of this width sees it, in light or dark colours.
    ///
    /// # Errors
    /// A browser without developer tools.
    pub fn picture(&self, width: u32, is_dark: bool) -> Result<Vec<u8>> {
        let web_driver = self.driver.in_window(&self.window)?;
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.driver
            .run(web_driver.cdp().send_raw("Emulation.setEmulatedMedia", media))?;
        self.driver
            .run(web_driver.cdp().send_raw("Emulation.setDeviceMetricsOverride", size))?;
        self.driver.run(web_driver.screenshot_as_png())
    }

    /// With the environment's `PICTURES`, a folder, takes pictures of the page there: wide and narrow, light and dark.
    ///
    /// # Errors
    /// As [`Tab::picture`], or a folder that can't be written to.
    pub fn take_pictures(&self, name: &str) -> Result<()> {
        let Some(folder) = std::env::var_os("PICTURES").map(PathBuf::from) else {
            return Ok(());
        };
        for (width, is_dark) in [(1280, false), (1280, true), (390, false), (390, true)] {
            let colours = if is_dark { "dark" } else { "light" };
            let picture = self.picture(width, is_dark)?;
            std::fs::write(folder.join(format!("{name}-{width}-{colours}.png")), picture)?;
        }
        Ok(())
    }

    /// The whole number that the page shows in the element with this id.
    ///
    /// # Errors
    /// None there.
    pub fn whole(&self, id: &str) -> Result<u64> {
        let number = self.look()?.number(id).with_context(|| format!("no number {id}"))?;
        Ok(number as u64)
    }

    /// Closes the window.
    ///
    /// # Errors
    /// A window that is gone already.
    pub fn close(self) -> Result<()> {
        let web_driver = self.driver.in_window(&self.window)?;
        self.driver.run(web_driver.close_window())?;
        // Commands go to a window that is there.
        let windows = self.driver.run(web_driver.windows())?;
        let other = windows.into_iter().next().context("the browser has no window left")?;
        self.driver.in_window(&other)?;
        Ok(())
    }
}
