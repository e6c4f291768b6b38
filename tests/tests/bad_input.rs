//! Mistakes on the command line and in files: one line names the place, and nothing is started.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tests::program::{output_of, root, superstep};
use tests::run_file::RunText;

/// The line that a digits run file begins its data with.
const DIGITS_DATA: &str = "kind = \"digits\"";
const SIDE: usize = 8;
const SAMPLES: u8 = 20;

#[test]
fn an_unknown_key_is_named_with_its_file_and_line() -> Result<()> {
    let directory = TempDir::new()?;
    let run = RunText::digits()?.with("superstep_samples = 128", "superstep_sample = 128")?;
    let line = 1 + run
        .as_str()
        .lines()
        .take_while(|line| !line.starts_with("superstep_sample "))
        .count();
    let path = directory.path().join("mine.toml");
    std::fs::write(&path, run.as_str())?;
    expect_one_line(
        serve(&path),
        &[&path.display().to_string(), &format!("line {line}"), "superstep_sample"],
    )
}

#[test]
fn a_run_file_that_is_missing_or_is_none_is_named() -> Result<()> {
    let directory = TempDir::new()?;
    let missing = directory.path().join("missing.toml");
    expect_one_line(serve(&missing), &[&missing.display().to_string(), "can't be read"])?;
    let picture = directory.path().join("picture.toml");
    std::fs::write(&picture, [0xff, 0xd8, 0xff])?;
    expect_one_line(serve(&picture), &[&picture.display().to_string()])
}

#[test]
fn a_scenario_that_is_missing_or_makes_no_sense_of_its_run_is_named() -> Result<()> {
    let directory = TempDir::new()?;
    let simulate = |path: &Path| {
        let mut command = superstep();
        command.arg("simulate").arg(path);
        command
    };
    let missing = directory.path().join("missing.toml");
    expect_one_line(simulate(&missing), &[&missing.display().to_string(), "can't be read"])?;
    let path = directory.path().join("mine.toml");
    let runs = format!("{}/", root().join("runs").display());
    let nonsense = RunText::read(&root().join("scenarios/equal.toml"))?
        .with("../runs/", &runs)?
        .with("\"lockstep\", minibatch = 16 }", "\"lockstep\", minibatch = 0 }")?;
    std::fs::write(&path, nonsense.as_str())?;
    let place = path.display().to_string();
    expect_one_line(
        simulate(&path),
        &[&place, "variant \"lockstep\"", "minibatch = 0", "1 to 4096"],
    )
}

#[test]
fn layers_and_data_that_do_not_fit_each_other_are_named() -> Result<()> {
    let cases = [
        // A layer that says what comes in, and is wrong.
        (
            "outputs = 64",
            "outputs = 64\ninputs = 500",
            ["layer 7", "inputs = 512"],
        ),
        // A model for other pictures than the data has.
        (
            "input = [1, 8, 8]",
            "input = [1, 28, 28]",
            ["[model] input = [1, 28, 28]", "[1, 8, 8]"],
        ),
        // A model for fewer classes than the data has.
        ("outputs = 10", "outputs = 9", ["9 outputs", "10 classes"]),
        ("minibatch = 16", "minibatch = 0", ["[training] minibatch = 0", "1"]),
    ];
    for (old, new, [place, hint]) in cases {
        let directory = TempDir::new()?;
        let path = directory.path().join("mine.toml");
        std::fs::write(&path, RunText::digits()?.with(old, new)?.as_str())?;
        expect_one_line(serve(&path), &[&path.display().to_string(), place, hint])?;
    }
    Ok(())
}

#[test]
fn idx_files_that_are_missing_truncated_or_something_else_are_named() -> Result<()> {
    let files = ["train-images", "train-labels", "test-images", "test-labels"];
    for file in files {
        let directory = idx_run()?;
        let path = directory.path().join(file);
        let whole = std::fs::read(&path)?;
        let expect = |words: &str| {
            expect_one_line(
                serve(&directory.path().join("run.toml")),
                &[&path.display().to_string(), words],
            )
        };
        std::fs::write(&path, &whole[..whole.len() - 1])?;
        expect(&whole.len().to_string())?;
        std::fs::write(&path, &whole[..3])?;
        expect("expected 4 bytes")?;
        std::fs::write(&path, b"PK\x03\x04 something else")?;
        expect("")?;
        std::fs::remove_file(&path)?;
        expect("can't be opened")?;
    }
    Ok(())
}

#[test]
fn whole_idx_files_are_served() -> Result<()> {
    // What the test above breaks was whole.
    let directory = idx_run()?;
    let mut command = superstep();
    command
        .arg("reference")
        .arg(directory.path().join("run.toml"))
        .args(["--steps", "1"]);
    let output = output_of(command)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn texts_and_tables_that_cannot_be_used_are_named_with_the_place_and_the_hint() -> Result<()> {
    let cases = [
        // The run, its file, what is in it instead, and what is said.
        (
            "char-transformer.toml",
            "shakespeare.txt.gz",
            &b"Who's there?\n\xff"[..],
            ["offset 13", "convert it to UTF-8"],
        ),
        (
            "char-transformer.toml",
            "shakespeare.txt.gz",
            b"Nay, answer me.",
            ["characters to train on", "set positions lower"],
        ),
        (
            "regression.toml",
            "diamonds.csv.gz",
            b"carat,cut,color,clarity,depth,table,price\n1,a,b,c,61,55,326\n1,a,b,,61,55,326\n2,b,c,d,62,56,327\n\
              3,b,c,d,62,56,327\n4,b,c,d,62,56,328\n5,b,c,d,62,56,329\n",
            ["line 3, column \"clarity\": is a hole", "fill it"],
        ),
        (
            "regression.toml",
            "diamonds.csv.gz",
            b"carat,cut,color,clarity,depth,table,price\n1,a,b,c,61,55,326\n1,a,b,61,55,326\n",
            ["line 3: has 6 values, but the header 7", "correct the line"],
        ),
    ];
    for (run, file, content, [place, hint]) in cases {
        let directory = TempDir::new()?;
        let path = directory.path().join("data").join(file);
        std::fs::create_dir(directory.path().join("data"))?;
        std::fs::write(&path, content)?;
        let run_path = directory.path().join(run);
        std::fs::copy(root().join("runs").join(run), &run_path)?;
        expect_one_line(serve(&run_path), &[&path.display().to_string(), place, hint])?;
    }
    Ok(())
}

#[test]
fn the_whole_line_says_once_what_is_wrong_and_a_hint() -> Result<()> {
    // What a run on diamonds says instead, and the line, where {run} and {data} are the files.
    let cases = [
        (
            "learning_rate = 0.007",
            "learning_rate = 1e39",
            "{run}: [training.schedule] learning_rate = 1e39 is not allowed; set a number from 1e-12 to 1000000",
        ),
        (
            "loss = \"mean_squared_error\"",
            "",
            "{run}: [model] loss = \"softmax_cross_entropy\" does not suit [dataset], whose targets are numbers; set \
             loss = \"mean_squared_error\"",
        ),
        (
            "file = \"data/diamonds.csv.gz\"",
            "file = \"data/missing.csv\"",
            "{folder}data/missing.csv: can't be opened: No such file or directory (os error 2); get the data, or \
             correct the path in [dataset]",
        ),
        (
            "targets = [\"price\"]",
            "targets = [\"price\", \"price\"]",
            "{data}: targets in [dataset] names \"price\" twice; leave one out",
        ),
        (
            "logarithms = [",
            "logarithms = [\"cut\", ",
            "{data}: logarithms in [dataset] names \"cut\", which is in categories, and words have no logarithm; \
             leave it out of logarithms",
        ),
    ];
    for (old, new, expected) in cases {
        let directory = TempDir::new()?;
        let path = directory.path().join("mine.toml");
        let data = directory.path().join("data");
        std::fs::create_dir(&data)?;
        std::fs::copy(root().join("runs/data/diamonds.csv.gz"), data.join("diamonds.csv.gz"))?;
        let run = RunText::read(&root().join("runs/regression.toml"))?.with(old, new)?;
        std::fs::write(&path, run.as_str())?;
        let expected = expected
            .replace("{run}", &path.display().to_string())
            .replace("{folder}", &format!("{}/", directory.path().display()))
            .replace("{data}", &data.join("diamonds.csv.gz").display().to_string());
        let output = output_of(serve(&path))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            said == format!("superstep: {expected}\n"),
            "{said:?} is not {expected:?}"
        );
    }
    Ok(())
}

#[test]
fn a_model_that_does_not_suit_a_text_is_named() -> Result<()> {
    for (old, new, [said, hint]) in [
        ("tokens = 73", "tokens = 72", ["73 different tokens", "set tokens = 73"]),
        ("outputs = 73", "outputs = 72", ["72 outputs", "set outputs = 73"]),
        (
            "input = [128]",
            "input = [64]",
            ["the shape [128]", "set input = [128]"],
        ),
    ] {
        let directory = TempDir::new()?;
        let path = directory.path().join("mine.toml");
        std::fs::write(
            &path,
            RunText::of_runs("char-transformer.toml")?.with(old, new)?.as_str(),
        )?;
        expect_one_line(serve(&path), &[&path.display().to_string(), said, hint])?;
    }
    Ok(())
}

#[test]
fn an_address_that_is_taken_is_named() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let directory = TempDir::new()?;
    let mut command = superstep();
    command.args(["serve", "--listen", &address, "--state"]);
    command.arg(directory.path());
    expect_one_line(command, &[&address, "--listen"])
}

#[test]
fn a_volunteer_and_a_reference_say_what_they_cannot_do() -> Result<()> {
    let mut volunteer = superstep();
    volunteer.args(["volunteer", "ftp://example.org"]);
    expect_one_line(volunteer, &["ftp://example.org", "http://"])?;
    let mut reference = superstep();
    reference.args(["reference", "--batch", "17"]);
    expect_one_line(reference, &["--batch 17", "16"])
}

/// It ends with an error and one line about it, which holds all of these words.
fn expect_one_line(command: Command, words: &[&str]) -> Result<()> {
    let shown = format!("{command:?}");
    let output = output_of(command)?;
    let [said, printed] = [&output.stderr, &output.stdout].map(|output| String::from_utf8_lossy(output).into_owned());
    ensure!(!output.status.success(), "{shown} succeeded");
    ensure!(
        said.lines().count() == 1 && printed.is_empty(),
        "{shown} said:\n{said}and printed:\n{printed}"
    );
    for word in words {
        ensure!(said.contains(word), "{shown}: {word:?} is not in {said:?}");
    }
    Ok(())
}

fn serve(run: &Path) -> Command {
    let mut command = superstep();
    command.arg("serve").arg(run).args(["--listen", "127.0.0.1:0"]);
    command
}

/// A run file beside four small IDX files that it trains on.
fn idx_run() -> Result<TempDir> {
    let directory = TempDir::new()?;
    let data = "kind = \"idx\"\nclasses = 10\ntrain_images = \"train-images\"\ntrain_labels = \"train-labels\"\n\
                test_images = \"test-images\"\ntest_labels = \"test-labels\"";
    let run = RunText::digits()?.with(DIGITS_DATA, data)?;
    std::fs::write(directory.path().join("run.toml"), run.as_str())?;
    let mut images = idx_header(&[usize::from(SAMPLES), SIDE, SIDE]);
    images.extend((0..usize::from(SAMPLES) * SIDE * SIDE).map(|pixel| (pixel % 251) as u8));
    let mut labels = idx_header(&[usize::from(SAMPLES)]);
    labels.extend((0..SAMPLES).map(|sample| sample % 10));
    for part in ["train", "test"] {
        std::fs::write(directory.path().join(format!("{part}-images")), &images)?;
        std::fs::write(directory.path().join(format!("{part}-labels")), &labels)?;
    }
    Ok(directory)
}

/// Two zeros, 8 for unsigned bytes, how many dimensions, and each of them.
fn idx_header(dimensions: &[usize]) -> Vec<u8> {
    let mut header = vec![0, 0, 8, dimensions.len() as u8];
    header.extend(
        dimensions
            .iter()
            .flat_map(|dimension| (*dimension as u32).to_be_bytes()),
    );
    header
}
