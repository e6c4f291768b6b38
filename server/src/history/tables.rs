//! The tables of the file, and how rows lie in them.

use rusqlite::types::{FromSqlError, Type, Value};
use rusqlite::{Error, Result};

use super::curves::EvaluationPoint;
use super::rows::{EvaluationRow, EventKind, EventRow, SuperstepRow};

/// The version of these tables. A change of them raises it, and says how to read the version before.
pub(super) const SCHEMA_VERSION: i64 = 1;

/// Marks the file as a history of Superstep, for SQLite and for `file`: "SSHi".
pub(super) const APPLICATION_ID: i64 = 0x5353_4869;

/// `merged` counts what became one row; `lost` says that a restart went back to a version before it. Where a loss is
/// NULL, it was no number. A time beyond 1e12 s, 30,000 years, was damaged.
pub(super) const SCHEMA: &str = "
CREATE TABLE supersteps (
    id INTEGER PRIMARY KEY,
    lost INTEGER NOT NULL CHECK (lost IN (0, 1)),
    merged INTEGER NOT NULL CHECK (merged > 0),
    incarnation INTEGER NOT NULL CHECK (incarnation >= 0),
    version INTEGER NOT NULL CHECK (version >= 0),
    samples INTEGER NOT NULL CHECK (samples >= 0),
    elapsed_seconds REAL NOT NULL CHECK (elapsed_seconds BETWEEN 0 AND 1e12),
    unix_seconds REAL NOT NULL,
    loss REAL,
    superstep_samples INTEGER NOT NULL CHECK (superstep_samples >= 0),
    open_seconds REAL NOT NULL CHECK (open_seconds >= 0),
    samples_per_second REAL GENERATED ALWAYS AS (superstep_samples / open_seconds) VIRTUAL,
    volunteers REAL NOT NULL,
    staleness REAL,
    refused INTEGER NOT NULL CHECK (refused >= 0)
) STRICT;
CREATE TABLE evaluations (
    id INTEGER PRIMARY KEY,
    lost INTEGER NOT NULL CHECK (lost IN (0, 1)),
    merged INTEGER NOT NULL CHECK (merged > 0),
    incarnation INTEGER NOT NULL CHECK (incarnation >= 0),
    version INTEGER NOT NULL CHECK (version >= 0),
    samples INTEGER NOT NULL CHECK (samples >= 0),
    elapsed_seconds REAL NOT NULL CHECK (elapsed_seconds BETWEEN 0 AND 1e12),
    unix_seconds REAL NOT NULL,
    accuracy REAL,
    loss REAL
) STRICT;
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    incarnation INTEGER NOT NULL CHECK (incarnation >= 0),
    version INTEGER NOT NULL CHECK (version >= 0),
    samples INTEGER NOT NULL CHECK (samples >= 0),
    elapsed_seconds REAL NOT NULL CHECK (elapsed_seconds BETWEEN 0 AND 1e12),
    unix_seconds REAL NOT NULL,
    session INTEGER,
    detail TEXT NOT NULL
) STRICT;
";

/// A row that lies in a table of the file.
pub(super) trait Stored: Sized {
    /// The table.
    const TABLE: &'static str;
    /// Its columns, in the order of [`Stored::to_columns`].
    const COLUMNS: &'static str;

    /// The row's columns.
    fn to_columns(&self, is_lost: bool) -> Vec<Value>;

    /// The row of these columns, and whether its version was lost.
    fn from_columns(columns: &Columns<'_>) -> Result<(Self, bool)>;
}

/// The columns of one row that was read.
pub(super) struct Columns<'a>(pub(super) &'a rusqlite::Row<'a>);

impl Columns<'_> {
    fn whole(&self, index: usize) -> Result<u64> {
        let value: i64 = self.0.get(index)?;
        u64::try_from(value).map_err(|_| Error::IntegralValueOutOfRange(index, value))
    }

    fn incarnation(&self, index: usize) -> Result<u32> {
        let value: i64 = self.0.get(index)?;
        u32::try_from(value).map_err(|_| Error::IntegralValueOutOfRange(index, value))
    }

    fn real(&self, index: usize) -> Result<f64> {
        Ok(self.0.get::<_, Option<f64>>(index)?.unwrap_or(f64::NAN))
    }

    fn is_set(&self, index: usize) -> Result<bool> {
        Ok(self.whole(index)? == 1)
    }
}

/// SQLite's integers have a sign.
fn whole(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// SQLite makes NULL of what is no number.
fn real(number: f64) -> Value {
    Value::Real(number)
}

impl Stored for SuperstepRow {
    const TABLE: &'static str = "supersteps";
    const COLUMNS: &'static str = "id, lost, merged, incarnation, version, samples, elapsed_seconds, unix_seconds, \
        loss, superstep_samples, open_seconds, volunteers, staleness, refused";

    fn to_columns(&self, is_lost: bool) -> Vec<Value> {
        vec![
            whole(self.id),
            whole(is_lost.into()),
            whole(self.merged),
            whole(self.incarnation.into()),
            whole(self.version),
            whole(self.samples),
            real(self.elapsed_seconds),
            real(self.unix_seconds),
            real(self.loss),
            whole(self.superstep_samples),
            real(self.open_seconds),
            real(self.volunteers),
            real(self.staleness),
            whole(self.refused),
        ]
    }

    fn from_columns(columns: &Columns<'_>) -> Result<(SuperstepRow, bool)> {
        let row = SuperstepRow {
            id: columns.whole(0)?,
            merged: columns.whole(2)?,
            incarnation: columns.incarnation(3)?,
            version: columns.whole(4)?,
            samples: columns.whole(5)?,
            elapsed_seconds: columns.real(6)?,
            unix_seconds: columns.real(7)?,
            loss: columns.real(8)?,
            superstep_samples: columns.whole(9)?,
            open_seconds: columns.real(10)?,
            volunteers: columns.real(11)?,
            staleness: columns.real(12)?,
            refused: columns.whole(13)?,
        };
        Ok((row, columns.is_set(1)?))
    }
}

impl Stored for EvaluationRow {
    const TABLE: &'static str = "evaluations";
    const COLUMNS: &'static str = "id, lost, merged, incarnation, version, samples, elapsed_seconds, unix_seconds, \
        accuracy, loss";

    fn to_columns(&self, is_lost: bool) -> Vec<Value> {
        vec![
            whole(self.id),
            whole(is_lost.into()),
            whole(self.merged),
            whole(self.incarnation.into()),
            whole(self.point.version),
            whole(self.point.samples),
            real(self.point.elapsed_seconds),
            real(self.unix_seconds),
            self.point.accuracy.map_or(Value::Null, real),
            real(self.point.loss),
        ]
    }

    fn from_columns(columns: &Columns<'_>) -> Result<(EvaluationRow, bool)> {
        let row = EvaluationRow {
            id: columns.whole(0)?,
            merged: columns.whole(2)?,
            incarnation: columns.incarnation(3)?,
            unix_seconds: columns.real(7)?,
            point: EvaluationPoint {
                version: columns.whole(4)?,
                samples: columns.whole(5)?,
                elapsed_seconds: columns.real(6)?,
                accuracy: columns.0.get(8)?,
                loss: columns.real(9)?,
            },
        };
        Ok((row, columns.is_set(1)?))
    }
}

impl Stored for EventRow {
    const TABLE: &'static str = "events";
    const COLUMNS: &'static str =
        "id, kind, incarnation, version, samples, elapsed_seconds, unix_seconds, session, detail";

    fn to_columns(&self, _: bool) -> Vec<Value> {
        vec![
            whole(self.id),
            Value::Text(self.kind.name().to_owned()),
            whole(self.incarnation.into()),
            whole(self.version),
            whole(self.samples),
            real(self.elapsed_seconds),
            real(self.unix_seconds),
            self.session.map_or(Value::Null, whole),
            Value::Text(self.detail.clone()),
        ]
    }

    fn from_columns(columns: &Columns<'_>) -> Result<(EventRow, bool)> {
        let kind: String = columns.0.get(1)?;
        let kind = EventKind::named(&kind)
            .ok_or_else(|| Error::FromSqlConversionFailure(1, Type::Text, Box::new(FromSqlError::InvalidType)))?;
        let session: Option<i64> = columns.0.get(7)?;
        let row = EventRow {
            id: columns.whole(0)?,
            kind,
            incarnation: columns.incarnation(2)?,
            version: columns.whole(3)?,
            samples: columns.whole(4)?,
            elapsed_seconds: columns.real(5)?,
            unix_seconds: columns.real(6)?,
            session: session.map(|session| u64::try_from(session).unwrap_or_default()),
            detail: columns.0.get(8)?,
        };
        Ok((row, false))
    }
}
