//! The page's types, `web/types.d.ts`, are written from the types that it is sent. Here the file is compared with them;
//! `UPDATE_TYPES=1 cargo test --release --package server page_types` writes it.

use std::fs;
use std::path::Path;

use bsp::protocol::codec::Codec;
use bsp::protocol::message::Mode;
use nn::data::sample_format::{ContentFormat, SampleFormat, TableTargets};
use nn::loss::LossSpec;
use serde::Serialize;
use simulator::fault_run::{Entry, Invariant, Subject, view};
use ts_rs::{Config, TS};
use volunteer::description::{DatasetDescription, MemoryNeed, RunDescription};
use volunteer::messages::{FromBspWorker, Join, ToBspWorker, Told};
use volunteer::progress::{MlModuleProgress, Progress, TimeShares};

use crate::api;
use crate::history::{Curves, EvaluationPoint, EventKind, HistoryEvent, LossPoint};

/// Types that the file has besides: no Rust code has them.
const BY_HAND: &str = r"
/** From the BSP worker's script to the page, before there is a module and while there is one. */
export type FromBspScript =
  /** It is there. */
  | { type: 'alive' }
  /** What ML workers start with. */
  | { type: 'module'; module: WebAssembly.Module; memory: WebAssembly.Memory }
  /** There can be no module. */
  | { type: 'failed'; detail: string };

/** What this tab does, in one word; `document.body.dataset.state` has it too. */
export type TabState = BspState | 'unsupported' | 'not-contributing';

/** What a run aims at. Held-out answers to count as right or wrong come with an accuracy; numbers have a loss only. */
export type Target = { accuracy: number | null; loss: number | null };
";

#[test]
fn the_pages_types_are_those_of_what_it_is_sent() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/types.d.ts");
    let types = types();
    if std::env::var_os("UPDATE_TYPES").is_some() {
        fs::write(&path, &types).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap();
    assert!(
        committed == types,
        "web/types.d.ts is not what the types come to:\n\
         run UPDATE_TYPES=1 cargo test --release --package server page_types"
    );
}

fn types() -> String {
    let mut file = String::from(
        "// What the page is told and what it tells: the server's JSON, and the messages between page and workers.\n\
         // Written from the Rust types by a test, server/src/page_types.rs, which also says how to write it anew.\n\
         // The page checks none of it at run time; both sides are ours and are served together.\n",
    );
    file += &union("Mode", "Whether computing waits for synchronising.", &modes());
    file += &union("Codec", "How what travels is encoded.", &Codec::ALL);
    file += &union("Loss", "What training makes small.", &losses());
    file += "\n/** What a sample's bytes mean: as much of it as the page looks at. */\n\
             export type SampleFormat = { kind: 'bytes' | 'text' | 'table'; shape: number[] };\n";
    file += &declaration::<RunDescription>();
    file += &declaration::<DatasetDescription>();
    file += &declaration::<MemoryNeed>();
    file += &declaration::<api::Status>();
    file += &declaration::<api::State>();
    file += &declaration::<api::Volunteer>();
    file += &declaration::<TimeShares>();
    file += &declaration::<Curves>();
    file += &declaration::<LossPoint>();
    file += &declaration::<EvaluationPoint>();
    file += &declaration::<HistoryEvent>();
    file += &declaration::<EventKind>();
    file += &declaration::<ToBspWorker>();
    file += &declaration::<Join>();
    file += &declaration::<FromBspWorker>();
    file += &declaration::<Told>();
    file += &declaration::<volunteer::messages::State>();
    file += &declaration::<Progress>();
    file += &declaration::<MlModuleProgress>();
    file += &declaration::<view::View>();
    file += &declaration::<view::PhaseView>();
    file += &declaration::<view::SettingsView>();
    file += &declaration::<view::ServerView>();
    file += &declaration::<view::ServerState>();
    file += &declaration::<view::VolunteerView>();
    file += &declaration::<view::VolunteerState>();
    file += &declaration::<view::Books>();
    file += &declaration::<view::InvariantView>();
    file += &declaration::<Invariant>();
    file += &declaration::<Entry>();
    file += &declaration::<Subject>();
    file + BY_HAND
}

#[test]
fn the_page_knows_every_kind_of_sample() {
    let contents = [
        ContentFormat::Bytes {
            scale: 1.0,
            shift: 0.0,
            classes: 2,
        },
        ContentFormat::Text { tokens: 2 },
        ContentFormat::Table {
            targets: TableTargets::Values { count: 1 },
        },
    ];
    for content in contents {
        // A further kind does not compile here before it is listed above, and in the type.
        let kind = match &content {
            ContentFormat::Bytes { .. } => "bytes",
            ContentFormat::Text { .. } => "text",
            ContentFormat::Table { .. } => "table",
        };
        let format = SampleFormat {
            shape: vec![4],
            content,
        };
        let json = serde_json::to_value(format).unwrap();
        assert!(
            json["kind"] == kind && json["shape"] == serde_json::json!([4]),
            "{json}"
        );
    }
}

fn modes() -> [Mode; 3] {
    let all = [Mode::Decoupled, Mode::Lockstep, Mode::Asynchronous];
    // A further mode does not compile here before it is listed.
    all.map(|mode| match mode {
        Mode::Decoupled | Mode::Lockstep | Mode::Asynchronous => mode,
    })
}

fn losses() -> [LossSpec; 3] {
    let all = [
        LossSpec::SoftmaxCrossEntropy,
        LossSpec::MeanSquaredError,
        LossSpec::BinaryCrossEntropy,
    ];
    all.map(|loss| match loss {
        LossSpec::SoftmaxCrossEntropy | LossSpec::MeanSquaredError | LossSpec::BinaryCrossEntropy => loss,
    })
}

/// The union of the words that these values are serialized as.
fn union(name: &str, docs: &str, values: &[impl Serialize]) -> String {
    let words = values
        .iter()
        .map(|value| serde_json::to_string(value).unwrap().replace('"', "'"));
    let words: Vec<_> = words.collect();
    format!("\n/** {docs} */\nexport type {name} = {};\n", words.join(" | "))
}

/// The declaration of a type, a line for each of its properties or variants.
fn declaration<T: TS>() -> String {
    let config = Config::default().with_large_int("number");
    let docs = T::docs().unwrap_or_default();
    let declared = laid_out(&format!("{docs}export {}", T::decl(&config)));
    format!("\n{}\n", declared.trim_end())
}

/// The generator writes everything behind one another, but for comments.
fn laid_out(declared: &str) -> String {
    let mut lines = Lines::default();
    let mut rest = declared;
    while let Some(first) = rest.chars().next() {
        if let Some((comment, behind)) = rest.strip_prefix("/**").and_then(|rest| rest.split_once("*/")) {
            lines.comment(comment);
            rest = behind;
            continue;
        }
        rest = &rest[first.len_utf8()..];
        match first {
            '{' => lines.open(),
            '}' => lines.close(),
            ',' if lines.depth > 0 => lines.end(";"),
            '|' if lines.depth == 0 => lines.variant(),
            // Whole words in quotes are names or values; none of them needs the double ones.
            '"' => lines.push('\''),
            '\n' => {}
            other => lines.push(other),
        }
    }
    lines.end("");
    lines.text.replace("'type':", "type:")
}

#[derive(Default)]
struct Lines {
    text: String,
    line: String,
    depth: usize,
    /// Variants stand below each other, and what is in them one step further to the right.
    is_union: bool,
}

impl Lines {
    fn push(&mut self, character: char) {
        if character != ' ' || !self.line.is_empty() {
            self.line.push(character);
        }
    }

    /// Ends the line that was begun, if one was.
    fn end(&mut self, mark: &str) {
        let line = self.line.trim();
        if !line.is_empty() {
            let indent = "  ".repeat(self.depth + usize::from(self.is_union));
            self.text += &format!("{indent}{line}{mark}\n");
        }
        self.line.clear();
    }

    fn open(&mut self) {
        self.line.push('{');
        self.end("");
        self.depth += 1;
    }

    fn close(&mut self) {
        self.end(";");
        self.depth -= 1;
        self.line.push('}');
    }

    fn variant(&mut self) {
        self.end("");
        self.is_union = true;
        self.line.push('|');
    }

    /// On one line where there is room.
    fn comment(&mut self, comment: &str) {
        const COLUMNS: usize = 110;
        self.end("");
        let mut rows = vec![String::new()];
        for word in comment.split_whitespace().filter(|word| *word != "*") {
            let row = rows.last_mut().unwrap();
            if row.len() + word.len() > COLUMNS {
                rows.push(word.to_owned());
            } else {
                *row += if row.is_empty() { "" } else { " " };
                *row += word;
            }
        }
        let lines = match &rows[..] {
            [row] => vec![format!("/** {row} */")],
            rows => std::iter::once("/**".to_owned())
                .chain(rows.iter().map(|row| format!(" * {row}")))
                .chain(std::iter::once(" */".to_owned()))
                .collect(),
        };
        for line in lines {
            let indent = "  ".repeat(self.depth + usize::from(self.is_union && self.depth > 0));
            self.text += &format!("{indent}{line}\n");
        }
    }
}
