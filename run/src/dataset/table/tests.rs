//! Tests of tables: what becomes of them, and that each mistake gets one clear line.

use super::super::DatasetSpec;
use super::*;
use nn::data::shard::Content;

const FLOWERS: &str = "name,width,height,kind,is_red\n\
    a,1.5,10,rose,1\nb,2.5,100,\"tulip, wild\",0\nc,3.5,1000,rose,0\nd,2.5,10,aster,1\n";

fn load_table(text: &str, settings: &str) -> Result<Dataset, String> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("table.csv"), text).unwrap();
    let text = format!("kind = 'csv'\nfile = 'table.csv'\nheld_out = 0.25\n{settings}");
    let spec = toml::from_str::<DatasetSpec>(&text)
        .unwrap()
        .relative_to(directory.path());
    let prefix = format!("{}/", directory.path().display());
    Dataset::load(&spec, 1).map_err(|error| error.to_string().replace(&prefix, ""))
}

/// All rows: inputs and targets.
fn rows(shards: &[Shard]) -> Vec<(Vec<f32>, Vec<f32>)> {
    let rows = |shard: &Shard| match shard.content() {
        Content::Table { inputs, targets, .. } => {
            let targets = targets
                .chunks_exact(targets.len() / shard.samples())
                .map(<[f32]>::to_vec);
            let inputs = inputs.chunks_exact(shard.elements()).map(<[f32]>::to_vec);
            inputs.zip(targets).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    shards.iter().flat_map(rows).collect()
}

#[test]
fn numbers_are_scaled_and_categories_become_inputs() {
    let settings = "targets = ['width']\ninputs = ['height', 'kind']\ncategories = ['kind']\nlogarithms = ['height']";
    let dataset = load_table(FLOWERS, settings).unwrap();
    assert_eq!((dataset.train_samples(), dataset.held_out_samples()), (3, 1));
    assert_eq!(dataset.format.shape, [4]);
    let train = rows(&dataset.shards);
    for column in 0..2 {
        let numbers: Vec<f32> = train
            .iter()
            .map(|row| if column == 0 { row.0[0] } else { row.1[0] })
            .collect();
        let (mean, square) = (
            numbers.iter().sum::<f32>() / 3.0,
            numbers.iter().map(|x| x * x).sum::<f32>() / 3.0,
        );
        assert!(mean.abs() < 1e-6 && (square - 1.0).abs() < 1e-6, "{numbers:?}");
    }
    assert!(train.iter().all(|row| row.0[1..].iter().sum::<f32>() == 1.0));
    let Some(Legend::Table { inputs, targets }) = dataset.legend else {
        panic!("a table has a legend")
    };
    let category = |is: &str| Column::Category {
        column: "kind".into(),
        is: is.into(),
    };
    assert_eq!(
        inputs[1..],
        [category("aster"), category("rose"), category("tulip, wild")]
    );
    assert!(matches!(&inputs[0], Column::Number { logarithm: true, column, .. } if column == "height"));
    assert!(matches!(&targets[..], [Column::Number { logarithm: false, .. }]));
}

#[test]
fn classes_are_numbered_by_name_and_chances_stay() {
    let dataset = load_table(FLOWERS, "targets = ['kind']\ntarget_kind = 'class'\ninputs = ['width']").unwrap();
    let ContentFormat::Table { targets } = dataset.format.content else {
        panic!("a table")
    };
    assert_eq!(targets, TableTargets::Class { classes: 3 });
    let mut classes: Vec<f32> = rows(&[&dataset.shards[..], &dataset.held_out].concat())
        .iter()
        .map(|row| row.1[0])
        .collect();
    classes.sort_by(f32::total_cmp);
    assert_eq!(classes, [0.0, 1.0, 1.0, 2.0]);
    let dataset = load_table(
        FLOWERS,
        "targets = ['is_red']\ntarget_kind = 'chances'\ninputs = ['width']",
    )
    .unwrap();
    assert_eq!(
        dataset.format.content,
        ContentFormat::Table {
            targets: TableTargets::Probabilities { count: 1 }
        }
    );
}

#[test]
fn the_seed_changes_the_shards_but_never_what_is_held_out() {
    let text: String = (0..50).fold("x,y\n".into(), |text, row| format!("{text}{row},{}\n", row * row));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("table.csv"), text).unwrap();
    let spec: DatasetSpec = toml::from_str("kind = 'csv'\nfile = 'table.csv'\ntargets = ['y']").unwrap();
    let spec = spec.relative_to(directory.path());
    let (one, other) = (Dataset::load(&spec, 1).unwrap(), Dataset::load(&spec, 2).unwrap());
    assert_ne!(one.shards, other.shards);
    assert_eq!(one.held_out, other.held_out);
}

#[test]
fn a_table_that_can_not_be_used_is_refused_with_the_place_and_a_hint() {
    let plain = "targets = ['y']";
    for (text, settings, expected) in [
        (
            "x,y\n1,2\n3,\n5,6\n",
            plain,
            "table.csv: line 3, column \"y\": is a hole (\"\"); fill it, or leave the row or the column out",
        ),
        (
            "x,y\n1,2\nblue,3\n5,6\n7,9\n",
            plain,
            "table.csv: line 3, column \"x\": \"blue\" is no number; correct it, or name the column in categories",
        ),
        (
            "x,y\n1,2\n3\n5,6\n",
            plain,
            "table.csv: line 3: has 1 values, but the header 2; correct the line, or delimiter",
        ),
        (
            "x,z\n1,2\n3,4\n5,6\n",
            plain,
            "table.csv: line 1: has no column \"y\", only \"x\", \"z\"; correct targets in [dataset]",
        ),
        (
            "x,y\n0,2\n3,4\n5,6\n1,1\n",
            "targets = ['y']\nlogarithms = ['x']",
            "table.csv: line 2, column \"x\": 0 has no logarithm; take the column out of logarithms",
        ),
        (
            "x,y\n0,2\n3,0\n5,1\n",
            "targets = ['y']\ntarget_kind = 'chances'",
            "table.csv: line 2, column \"y\": 2 is no chance; give 0 for no and 1 for yes, or set target_kind",
        ),
        (
            "x,y\n4,2\n4,0\n4,1\n4,5\n",
            plain,
            "table.csv: column \"x\" holds one number in all rows to train on, so nothing follows from it; name the \
             others in inputs",
        ),
        (
            "x,y\n",
            plain,
            "table.csv: has 0 rows; give it at least one to train on and one to evaluate on",
        ),
    ] {
        assert_eq!(load_table(text, settings).unwrap_err(), expected);
    }
}

#[test]
fn words_in_a_column_of_numbers_are_refused_with_what_to_do_there() {
    let in_the_first_row = |settings: &str| load_table(FLOWERS, settings).unwrap_err();
    for (settings, hint) in [
        (
            "targets = ['width']\ninputs = ['kind']",
            "correct it, or name the column in categories",
        ),
        (
            "targets = ['width']\ninputs = ['kind']\nlogarithms = ['kind']",
            "correct it, or name the column in categories, and not in logarithms",
        ),
        (
            "targets = ['kind']\ninputs = ['width']",
            "correct it, or set target_kind = \"class\"",
        ),
        ("targets = ['kind', 'height']\ninputs = ['width']", "correct it"),
    ] {
        let said = in_the_first_row(settings);
        assert!(said.contains(", column \"kind\": \""), "{said}");
        assert!(said.ends_with(&format!("\" is no number; {hint}")), "{said}");
    }
    let infinite = FLOWERS.replace("1000,", "inf,");
    assert_eq!(
        load_table(&infinite, "targets = ['width']\ninputs = ['height']").unwrap_err(),
        "table.csv: line 4, column \"height\": \"inf\" has no end; correct it, or leave the row out"
    );
}

#[test]
fn two_columns_of_one_name_are_refused_whether_they_are_named_or_not() {
    let twice = "x,x,y\n1,2,3\n4,5,6\n7,8,8\n9,9,9\n";
    for settings in ["targets = ['y']", "targets = ['y']\ninputs = ['x']"] {
        assert_eq!(
            load_table(twice, settings).unwrap_err(),
            "table.csv: line 1: has two columns called \"x\"; rename one"
        );
    }
    assert!(
        load_table(&twice.replacen('x', "z", 1), "targets = ['y']").is_ok(),
        "the hint is wrong"
    );
}

/// Twelve rows of x, y and z, where one x of the rows to train on is another.
fn rows_with(x: &str, other: &str) -> String {
    (0..12).fold("x,y,z\n".to_owned(), |text, row| {
        let x = if row == 3 { other } else { x };
        format!("{text}{x},{row},{}\n", row * row)
    })
}

#[test]
fn a_column_that_is_constant_but_for_rounding_is_refused() {
    let constant = "table.csv: column \"x\" holds one number in all rows to train on, so nothing follows from it; \
                    name the others in inputs";
    // A sum of tenths is no multiple of a tenth: the standard deviation is not 0.
    for (x, other) in [("0.1", "0.1"), ("0.3", "0.30000000000000004"), ("-1e-20", "-1e-20")] {
        let text = rows_with(x, other);
        assert_eq!(load_table(&text, "targets = ['y']").unwrap_err(), constant);
        assert!(
            load_table(&text, "targets = ['y']\ninputs = ['z']").is_ok(),
            "the hint is wrong"
        );
    }
    assert_eq!(
        load_table(&rows_with("0.1", "0.1"), "targets = ['x']").unwrap_err(),
        "table.csv: column \"x\" holds one number in all rows to train on, so nothing follows from it; name another \
         one in targets"
    );
    // Seconds since 1970 are large, but not constant.
    assert!(load_table(&rows_with("1700000000", "1700000001"), "targets = ['y']").is_ok());
}

#[test]
fn a_number_that_can_not_be_scaled_is_refused_with_its_place_and_a_hint_that_helps() {
    let outlier = |text: &str, settings: &str| {
        let (line, said) = text
            .lines()
            .zip(1..)
            .find(|(line, _)| line.starts_with("1e"))
            .map(|(_, line)| (line, load_table(text, settings).unwrap_err()))
            .unwrap();
        said.replace(&format!("line {line}, "), "line N, ")
    };
    let of_both_signs = rows_with("-2", "1e300").replacen("-2,0,", "-3,0,", 1);
    assert_eq!(
        outlier(&of_both_signs, "targets = ['y']"),
        "table.csv: line N, column \"x\": 1e300 is too large to be scaled; correct it, or leave the row out"
    );
    let above_0 = of_both_signs.replace('-', "");
    assert_eq!(
        outlier(&above_0, "targets = ['y']"),
        "table.csv: line N, column \"x\": 1e300 is too large to be scaled; correct it, or name the column in logarithms"
    );
    assert!(
        load_table(&above_0, "targets = ['y']\nlogarithms = ['x']").is_ok(),
        "the hint is wrong"
    );
    // Whether it is held out or not, no input is infinite.
    for row in 0..12 {
        let numbers = |number: usize| match number == row {
            true => "1e90".to_owned(),
            false => format!("-{number}"),
        };
        let text = (0..12).fold("x,y\n".to_owned(), |text, number| {
            format!("{text}{},{}\n", numbers(number), number * number)
        });
        match load_table(&text, "targets = ['y']") {
            Ok(dataset) => assert!(rows(&dataset.held_out).iter().all(|row| row.0[0].is_finite())),
            Err(said) => assert_eq!(
                said,
                format!(
                    "table.csv: line {}, column \"x\": 1e90 is too far from the numbers in the rows to train on; \
                     correct it, or leave the row out",
                    row + 2
                )
            ),
        }
    }
}

#[test]
fn a_column_that_a_key_names_to_no_purpose_is_refused() {
    for (settings, expected) in [
        (
            "targets = ['width', 'width']",
            "targets in [dataset] names \"width\" twice; leave one out",
        ),
        (
            "targets = ['width']\ninputs = ['height', 'is_red', 'height']",
            "inputs in [dataset] names \"height\" twice; leave one out",
        ),
        (
            "targets = ['width']\ninputs = ['kind']\ncategories = ['kind', 'kind']",
            "categories in [dataset] names \"kind\" twice; leave one out",
        ),
        (
            "targets = ['width']\ninputs = ['height']\nlogarithms = ['height', 'height']",
            "logarithms in [dataset] names \"height\" twice; leave one out",
        ),
        (
            "targets = ['width']\ninputs = ['height']\ncategories = ['kind']",
            "categories in [dataset] names \"kind\", which is not among the inputs; leave it out of categories",
        ),
        (
            "targets = ['width']\ninputs = ['height', 'kind']\ncategories = ['kind']\nlogarithms = ['kind']",
            "logarithms in [dataset] names \"kind\", which is in categories, and words have no logarithm; leave it \
             out of logarithms",
        ),
        (
            "targets = ['kind']\ntarget_kind = 'class'\ninputs = ['height']\nlogarithms = ['kind']",
            "logarithms in [dataset] names \"kind\", which is a class, and words have no logarithm; leave it out of \
             logarithms",
        ),
        (
            "targets = ['is_red']\ntarget_kind = 'chances'\ninputs = ['height']\nlogarithms = ['is_red']",
            "logarithms in [dataset] names \"is_red\", which holds chances, which stay as they are; leave it out of \
             logarithms",
        ),
        (
            "targets = ['width']\ninputs = ['height']\nlogarithms = ['is_red']",
            "logarithms in [dataset] names \"is_red\", which is neither an input nor a target; leave it out of \
             logarithms",
        ),
    ] {
        assert_eq!(
            load_table(FLOWERS, settings).unwrap_err(),
            format!("table.csv: {expected}")
        );
    }
}

#[test]
fn a_missing_value_is_a_hole_however_it_is_written() {
    let with = |word: &str| {
        let text = format!("x,y\n1,a\n2,b\n3,{word}\n4,b\n5,a\n6,b\n7,a\n");
        load_table(&text, "targets = ['y']\ntarget_kind = 'class'").map(|_| ())
    };
    for hole in [
        "", "NA", "na", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "null", "NULL", "Null", "?",
    ] {
        assert_eq!(
            with(hole).unwrap_err(),
            format!(
                "table.csv: line 4, column \"y\": is a hole ({hole:?}); fill it, or leave the row or the column out"
            )
        );
    }
    for word in ["a", "Na", "None", "nothing", "-", "N"] {
        assert_eq!(with(word), Ok(()), "{word}");
    }
}
