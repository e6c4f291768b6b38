//! The developer tools' protocol of Chromium: WebDriver does not reach a page's workers.

use std::net::TcpStream;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use crate::wait::PATIENCE;

/// The developer tools of one page.
pub struct DevTools {
    socket: WebSocket<TcpStream>,
    last_id: u64,
    /// Workers that were announced: the tools' session with each, and its script.
    workers: Vec<(String, String)>,
}

impl DevTools {
    /// Opens them for the page `target` of the browser whose tools listen at `address`.
    ///
    /// # Errors
    /// A browser that has none.
    pub fn open(address: &str, target: &str) -> Result<DevTools> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let url = format!("ws://{address}/devtools/page/{target}");
        let (socket, _) = client::client(url, stream).map_err(|error| anyhow!("{error}"))?;
        let mut tools = DevTools {
            socket,
            last_id: 0,
            workers: Vec::new(),
        };
        // They announce the workers that there are before they answer.
        let attach = json!({ "autoAttach": true, "waitForDebuggerOnStart": false, "flatten": true });
        tools.command("Target.setAutoAttach", &attach, None)?;
        Ok(tools)
    }

    /// What `expression` is in each of the page's workers that run this script. They must be at rest in their event
    /// loop.
    ///
    /// # Errors
    /// An expression that fails.
    pub fn evaluate_in_workers(&mut self, script: &str, expression: &str) -> Result<Vec<Value>> {
        let workers = self.workers.clone();
        let chosen = workers.iter().filter(|(_, url)| url.ends_with(script));
        let evaluate = json!({ "expression": expression, "returnByValue": true });
        chosen
            .map(|(session, _)| {
                let answer = self.command("Runtime.evaluate", &evaluate, Some(session))?;
                ensure!(answer["exceptionDetails"].is_null(), "{answer:#}");
                Ok(answer["result"]["value"].clone())
            })
            .collect()
    }

    fn command(&mut self, method: &str, parameters: &Value, session: Option<&str>) -> Result<Value> {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": parameters });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        self.socket.send(Message::text(command.to_string()))?;
        loop {
            let Message::Text(text) = self.socket.read()? else {
                continue;
            };
            let message: Value = serde_json::from_str(&text)?;
            if message["method"] == "Target.attachedToTarget" {
                let said = |value: &Value| value.as_str().map(str::to_owned).context("a text");
                let session = said(&message["params"]["sessionId"])?;
                self.workers
                    .push((session, said(&message["params"]["targetInfo"]["url"])?));
            }
            if message["id"] == self.last_id {
                match &message["error"] {
                    Value::Null => return Ok(message["result"].clone()),
                    error => bail!("{method}: {error}"),
                }
            }
        }
    }
}
