//! What serde says of a value of the wrong type, in the words of a reader who knows TOML and not Rust.

pub(super) fn in_one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The message in one line, without Rust's names of types.
pub(super) fn in_readers_words(message: &str) -> String {
    let message = in_one_line(message).replace("wanted string or table", "expected a text in quotes or a table");
    let of_a_value = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|start| message.strip_prefix(start));
    match of_a_value.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, expected)) => format!(
            "expected {}, but found {}",
            expected_words(expected),
            found_words(found)
        ),
        None => message,
    }
}

fn expected_words(expected: &str) -> &str {
    match expected {
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number, 0 or more",
        "i64" | "i32" => "a whole number",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" | "a borrowed string" => "a text in quotes",
        "a character" => "one character in quotes",
        "a sequence" => "a list in brackets",
        _ if expected.starts_with("struct ") || expected.contains(" enum ") => "a table",
        _ => expected,
    }
}

fn found_words(found: &str) -> String {
    // Between backticks; behind them, a large number has its type.
    let value = |kind: &str| {
        let value = found.strip_prefix(kind)?;
        let quoted = value.strip_prefix('`').and_then(|value| value.split_once('`'));
        Some(quoted.map_or(value, |(value, _)| value).to_owned())
    };
    let number = || {
        ["integer ", "floating point ", "boolean "]
            .iter()
            .find_map(|kind| value(kind))
    };
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "a table".to_owned(),
        _ => number()
            .or_else(|| value("string ").map(|text| format!("the text {text}")))
            .or_else(|| value("character ").map(|text| format!("the text \"{text}\"")))
            .unwrap_or_else(|| found.to_owned()),
    }
}
