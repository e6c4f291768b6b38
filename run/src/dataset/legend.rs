//! What the numbers that go into a model and come out of it mean: it lies in the model's file, so that the file is
//! enough to use the model.

use serde::Serialize;

/// What the numbers mean.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Legend {
    /// Token i is character i of this.
    Text {
        /// The characters in the order of their numbers.
        tokens: String,
    },
    /// A table's columns.
    Table {
        /// What goes in.
        inputs: Vec<Column>,
        /// What comes out; of a class, what each class is called.
        targets: Vec<Column>,
    },
}

/// A number of a table's row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Column {
    /// (x − `mean`) / `std`, where x is the value or its logarithm.
    Number {
        /// The column's name.
        column: String,
        /// Whether the (natural) logarithm is taken first.
        logarithm: bool,
        /// Of the rows to train on.
        mean: f64,
        /// Of the rows to train on.
        std: f64,
    },
    /// 1 where the column holds `is`, 0 elsewhere; or, of a target, the class.
    Category {
        /// The column's name.
        column: String,
        /// What it holds.
        is: String,
    },
    /// As the column has it.
    Chance {
        /// The column's name.
        column: String,
    },
}
