//! The code does what `docs/protocol.md` says: each golden frame, each field, each reason.
//!
//! The document is the input: this test parses it. All values of the golden frames stand in [`from_volunteers`] and
//! [`from_central`], under the names that the document gives them.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bsp::protocol::codec::Codec;
use bsp::protocol::frame::{ContributionFrame, MAX_HEADER_BYTES, max_frame_bytes};
use bsp::protocol::message::{
    Ack, Contribution, ContributionRefusal, FromCentral, FromVolunteer, Hello, MAX_STEP_RUNS, ModelEncoding,
    ModuleStepRun, PROTOCOL, Refusal, Report, RunId, SessionId, StoreModel, Token, Welcome,
};
use bsp::shared_memory::{ModelStamp, PhaseTimes};
use bytes::Bytes;
use serde::de::DeserializeOwned;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

const RUN: RunId = RunId(0x1122_3344_5566_7788);
const SPEC_HASH: u64 = 0x99aa_bbcc_ddee_ff00;
const SESSION: SessionId = SessionId(3);
const TOKEN: Token = Token(0x0123_4567_89ab_cdef);
const STAMP: ModelStamp = ModelStamp {
    incarnation: 1,
    version: 300,
};
/// The payload of the golden contribution and of the golden model.
const VALUES: [f32; 2] = [1.5, -0.25];

fn report() -> Report {
    Report {
        ml_modules: 2,
        is_paused: false,
        not_finite: 0,
        discarded: 1,
        time_us: PhaseTimes {
            gradient: 1_000_000,
            add: 4_500,
            read: 620,
            wait: 1_040,
        },
        upload_us: 12_000,
        round_trip_us: 40_000,
    }
}

/// The golden messages of a volunteer: a name in the document, the message, its payload.
fn from_volunteers() -> Vec<(&'static str, FromVolunteer, &'static [f32])> {
    vec![
        (
            "Contribution",
            FromVolunteer::Contribution(Contribution {
                run: RUN,
                spec_hash: SPEC_HASH,
                incarnation: STAMP.incarnation,
                session: SESSION,
                sequence: 7,
                samples: 256,
                gradients: 8,
                loss_sum: 64.0,
                version_sum: 76_768,
                step_sum: 0,
                codec: Codec::F32,
                step_runs: vec![
                    ModuleStepRun {
                        ml_module: 0,
                        first_step: 40,
                        count: 1,
                        version: 299,
                    },
                    ModuleStepRun {
                        ml_module: 0,
                        first_step: 41,
                        count: 7,
                        version: 300,
                    },
                ],
                step_runs_not_listed: 0,
                report: report(),
            }),
            &VALUES,
        ),
        (
            "Hello",
            FromVolunteer::Hello(Hello {
                protocol: PROTOCOL,
                run: RUN,
                spec_hash: SPEC_HASH,
                incarnation: Some(STAMP.incarnation),
                session: Some((SESSION, TOKEN)),
                durable: 5,
                codecs: Codec::ALL.to_vec(),
                report: report(),
            }),
            &[],
        ),
        ("Stored", FromVolunteer::Stored(STAMP), &[]),
        ("Heartbeat", FromVolunteer::Heartbeat(report()), &[]),
        ("Leave", FromVolunteer::Leave, &[]),
    ]
}

/// The golden messages of the central controller.
fn from_central() -> Vec<(&'static str, FromCentral, &'static [f32])> {
    vec![
        (
            "Welcome",
            FromCentral::Welcome(Welcome {
                session: SESSION,
                token: TOKEN,
                period_us: 50_000,
                settled: 6,
                durable: 5,
                is_last_refused: false,
                codec: Codec::F32,
            }),
            &[],
        ),
        (
            "Refused",
            FromCentral::Refused(Refusal::OutOfOrder { got: 9, expected: 7 }),
            &[],
        ),
        (
            "StoreModel",
            FromCentral::StoreModel(StoreModel {
                stamp: STAMP,
                encoding: ModelEncoding::Whole,
            }),
            &VALUES,
        ),
        ("NextModelSettles", FromCentral::NextModelSettles { through: 6 }, &[]),
        ("ReadOutEvery", FromCentral::ReadOutEvery { period_us: 50_000 }, &[]),
        ("Durable", FromCentral::Durable { through: 7 }, &[]),
        ("BackSoon", FromCentral::BackSoon, &[]),
        (
            "Ack",
            FromCentral::Ack(Ack {
                through: 7,
                durable: 5,
                refused: Some(ContributionRefusal::TooStale { staleness: 65, max: 64 }),
            }),
            &[],
        ),
    ]
}

fn volunteer_frame(message: &FromVolunteer, payload: &[f32]) -> Bytes {
    let FromVolunteer::Contribution(contribution) = message else {
        assert!(payload.is_empty(), "only a contribution has a payload");
        return message.encode();
    };
    let mut frame = ContributionFrame::new(payload.len());
    let bytes = contribution.codec.encoded_bytes(payload.len());
    contribution.codec.encode(payload, frame.payload_mut(bytes));
    let sealed = frame.seal(contribution);
    assert!(sealed.is_ok(), "a golden header fits: {sealed:?}");
    Bytes::copy_from_slice(frame.as_bytes())
}

fn central_frame(message: &FromCentral, payload: &[f32]) -> Bytes {
    match message {
        FromCentral::StoreModel(model) => FromCentral::encode_model(model.stamp, payload),
        _ => message.encode(),
    }
}

#[test]
fn every_message_of_a_volunteer_has_its_golden_frame_in_the_document() {
    let frames = golden_frames("FromVolunteer");
    let mut others = String::new();
    for (name, message, payload) in from_volunteers() {
        let frame = volunteer_frame(&message, payload);
        others += &difference(frames.get(name), &frame, name);
        let received = FromVolunteer::decode(&frame).expect("a golden frame can be read");
        assert_eq!(
            (received.message, floats(&received.payload)),
            (message, payload.to_vec())
        );
    }
    assert!(others.is_empty(), "golden frames that the document has not:\n{others}");
    assert_eq!(names(frames.keys()), names(&variants::<FromVolunteer>()));
}

#[test]
fn every_message_of_the_central_controller_has_its_golden_frame_in_the_document() {
    let frames = golden_frames("FromCentral");
    let mut others = String::new();
    for (name, message, payload) in from_central() {
        let frame = central_frame(&message, payload);
        others += &difference(frames.get(name), &frame, name);
        let received = FromCentral::decode(&frame).expect("a golden frame can be read");
        assert_eq!(
            (received.message, floats(&received.payload)),
            (message, payload.to_vec())
        );
    }
    assert!(others.is_empty(), "golden frames that the document has not:\n{others}");
    assert_eq!(names(frames.keys()), names(&variants::<FromCentral>()));
}

#[test]
fn every_message_lists_its_fields_in_the_order_in_which_they_travel() {
    let of_volunteer = from_volunteers()
        .into_iter()
        .map(|(name, message, _)| (name, fields(&message)));
    let of_central = from_central()
        .into_iter()
        .map(|(name, message, _)| (name, fields(&message)));
    for (name, fields) in of_volunteer.chain(of_central) {
        assert_eq!(first_column(name), fields, "the table below `### {name}`");
    }
    assert_eq!(first_column("Report"), fields(&report()));
    assert_eq!(first_column("ModelStamp"), fields(&STAMP));
}

#[test]
fn every_reason_and_every_codec_is_listed_under_its_number() {
    assert_eq!(first_column("Refusal"), numbered(variants::<Refusal>()));
    assert_eq!(
        first_column("ContributionRefusal"),
        numbered(variants::<ContributionRefusal>())
    );
    assert_eq!(first_column("Codec"), numbered(variants::<Codec>()));
    assert_eq!(first_column("ModelEncoding"), numbered(variants::<ModelEncoding>()));
}

#[test]
fn the_document_states_the_version_and_the_limits() {
    for promise in [
        format!("This is protocol {PROTOCOL}."),
        format!("at most {MAX_HEADER_BYTES} bytes"),
        format!("at most {MAX_STEP_RUNS} runs"),
        format!("4 + {MAX_HEADER_BYTES} + 4 · P + 8 bytes for P parameters"),
    ] {
        assert!(DOCUMENT.contains(&promise), "docs/protocol.md does not say “{promise}”");
    }
    for parameters in [0, 1, 10_000_000] {
        assert_eq!(max_frame_bytes(parameters), 4 + MAX_HEADER_BYTES + 4 * parameters + 8);
    }
}

/// The names of an enum's variants in the order of their numbers. A header of a number and zeros is one of each, as
/// long as there is a variant of that number.
fn variants<T: DeserializeOwned + Debug>() -> Vec<String> {
    let variant = |number| {
        let mut header = [0; 1024];
        header[0] = number;
        let value = postcard::take_from_bytes::<T>(&header);
        value.ok().map(|(value, _)| word(&format!("{value:?}")))
    };
    (0..=u8::MAX).map_while(variant).collect()
}

/// `0 Name`, `1 Name`, …
fn numbered(names: Vec<String>) -> Vec<String> {
    let numbered = names.into_iter().enumerate();
    numbered.map(|(number, name)| format!("{number} {name}")).collect()
}

/// The names of a struct's fields, or of a message's. A message that carries a type of its own section has no fields of
/// its own but that type.
fn fields(value: &impl Debug) -> Vec<String> {
    let text = format!("{value:#?}");
    let mut lines = text.lines().map(str::trim_start);
    let (first, second) = (word(lines.next().unwrap_or_default()), lines.next().unwrap_or_default());
    let carried = word(second);
    if text.starts_with(&format!("{first}(")) && carried != first {
        let is_reason = variants::<Refusal>().contains(&carried);
        return vec![if is_reason { "Refusal".to_owned() } else { carried }];
    }
    let field = |line: &str| {
        let (name, _) = line.trim_start().split_once(": ")?;
        Some((line.len() - line.trim_start().len(), name.to_owned()))
    };
    let fields: Vec<_> = text.lines().filter_map(field).collect();
    let outermost = fields.iter().map(|(indent, _)| *indent).min();
    let fields = fields.into_iter().filter(|(indent, _)| Some(*indent) == outermost);
    fields.map(|(_, name)| name).collect()
}

/// The word that a text begins with.
fn word(text: &str) -> String {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    text.chars().take_while(|c| is_letter(*c)).collect()
}

/// The entries in the first column of the first table below the heading `### name`.
fn first_column(name: &str) -> Vec<String> {
    let heading = format!("### `{name}`");
    let below = DOCUMENT.lines().skip_while(|line| *line != heading).skip(1);
    let section = below.take_while(|line| !line.starts_with('#'));
    let table = section
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let cell = |line: &str| {
        line.split('|')
            .nth(1)
            .unwrap_or_default()
            .replace('`', "")
            .trim()
            .to_owned()
    };
    table.skip(2).map(cell).collect()
}

/// The golden frames of one side: blocks that begin with `golden Side::Name`, in hexadecimal digits; what follows a `#`
/// explains a line.
fn golden_frames(side: &str) -> BTreeMap<String, Vec<u8>> {
    let blocks = DOCUMENT.split("```").skip(1).step_by(2);
    blocks
        .filter_map(|block| {
            let (first, lines) = block.split_once('\n')?;
            let name = first.strip_prefix("golden ")?.strip_prefix(side)?.strip_prefix("::")?;
            let digits = lines.lines().filter_map(|line| line.split('#').next());
            let bytes = digits.flat_map(str::split_whitespace).map(byte).collect();
            Some((name.to_owned(), bytes))
        })
        .collect()
}

fn byte(digits: &str) -> u8 {
    u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("docs/protocol.md: {digits} is no byte in hexadecimal"))
}

/// Nothing where the document has the frame, and else the frame, to be put there.
fn difference(documented: Option<&Vec<u8>>, frame: &[u8], name: &str) -> String {
    if documented.is_some_and(|bytes| *bytes == frame) {
        return String::new();
    }
    let lines: Vec<_> = frame.chunks(16).map(hex).collect();
    format!("{name}\n{}\n", lines.join("\n"))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn floats(payload: &[u8]) -> Vec<f32> {
    let floats = payload.as_chunks().0.iter();
    floats.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn names<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<&'a String> {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort();
    names
}
