//! What is not TOML, or no run file's keys and types, is named with its line, in a reader's words.

use super::{GOOD, parse, refused};

#[test]
fn an_unknown_key_is_refused_in_every_table() {
    for (line, before) in [
        (1, "name = "),
        (6, "kind = \"digits\""),
        (8, "input = "),
        (10, "kind = \"flatten\""),
        (12, "kind = \"linear\""),
        (15, "minibatch = 8"),
        (17, "kind = \"sgd\""),
        (20, "kind = \"constant\""),
        (23, "interval_seconds = 2"),
    ] {
        let message = refused(before, &format!("colour = 1\n{before}"));
        assert!(message.contains("unknown field `colour`"), "before {before}: {message}");
        let found: usize = message
            .strip_prefix("line ")
            .unwrap()
            .split(':')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        // Of a layer, which is chosen by its kind, the line where it begins is known.
        let is_in_a_layer = (9..=13).contains(&line);
        assert!(
            found == line || (is_in_a_layer && found + 1 == line),
            "line {line}: {message}"
        );
    }
    let message = refused("outputs = 10", "outputs = 10\nbias = false");
    assert!(
        message.starts_with("line 11: layer 2: unknown field `bias`"),
        "{message}"
    );
}

#[test]
fn a_mistake_in_the_syntax_is_named_with_its_line() {
    let message = refused("seed = 7", "seed = ");
    assert!(message.starts_with("line 3: "), "{message}");
    let message = refused("seed = 7", "seed = -7");
    assert!(message.starts_with("line 3: "), "{message}");
    let message = refused("minibatch = 8", "minibatch = \"8\"");
    assert_eq!(
        message,
        "line 15: expected a whole number, 0 or more, but found the text \"8\""
    );
    let message = refused("seed = 7\n", "");
    assert!(message.contains("missing field `seed`"), "{message}");
    let message = refused("kind = \"sgd\"", "kind = \"sdg\"");
    assert!(
        message.contains("unknown variant `sdg`, expected one of `sgd`, `adam`, `adamw`"),
        "{message}"
    );
    let message = refused("minibatch = 8", "mode = \"lockstop\"");
    assert!(message.starts_with("line 15: unknown variant `lockstop`"), "{message}");
}

#[test]
fn a_value_of_another_type_is_refused_in_a_readers_words() {
    for (from, to, expected) in [
        (
            "minibatch = 8",
            "minibatch = -8",
            "line 15: expected a whole number, 0 or more, but found -8",
        ),
        (
            "minibatch = 8",
            "minibatch = 8.5",
            "line 15: expected a whole number, 0 or more, but found 8.5",
        ),
        (
            "minibatch = 8",
            "quorum = \"half\"",
            "line 15: expected a number, but found the text \"half\"",
        ),
        (
            "name = \"mine\"",
            "name = 7",
            "line 1: expected a text in quotes, but found 7",
        ),
        (
            "input = [1, 8, 8]",
            "input = 64",
            "line 8: expected a list in brackets, but found 64",
        ),
        (
            "outputs = 10",
            "outputs = [10]",
            "line 11: layer 2: expected a whole number, 0 or more, but found a list",
        ),
        (
            "seed = 7",
            "seed = 7\nevaluation = 2",
            "line 4: expected a table, but found 2",
        ),
    ] {
        let text = GOOD.replacen("[evaluation]\ninterval_seconds = 2\n", "", 1);
        let message = parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert_eq!(message, format!("runs/mine.toml: {expected}"));
    }
}
