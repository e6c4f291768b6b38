//! Files of data, gzipped or not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::DatasetError;

/// The largest file, unpacked: the server keeps the data in memory. 4 GiB holds five million images of 28×28.
pub(super) const MAX_FILE_BYTES: u64 = 4 << 30;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The file's content, unpacked if it starts like gzip, whatever it is called.
pub(super) fn unpacked(path: &Path) -> Result<Box<dyn Read>, DatasetError> {
    let open_error = |cause: io::Error| DatasetError::Open {
        path: path.to_owned(),
        cause,
    };
    let mut file = BufReader::new(File::open(path).map_err(open_error)?);
    let start = file.fill_buf().map_err(open_error)?;
    if start.starts_with(&GZIP_MAGIC) {
        Ok(Box::new(MultiGzDecoder::new(file)))
    } else {
        Ok(Box::new(file))
    }
}

/// The whole file as text, unpacked.
pub(super) fn text(path: &Path) -> Result<String, DatasetError> {
    let mut bytes = Vec::new();
    let read = unpacked(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    let offset = bytes.len() as u64;
    match read {
        Ok(_) if offset > MAX_FILE_BYTES => Err(DatasetError::TooLong { path: path.to_owned() }),
        Ok(_) => String::from_utf8(bytes).map_err(|error| DatasetError::NotText {
            path: path.to_owned(),
            offset: error.utf8_error().valid_up_to(),
        }),
        Err(cause) => {
            let cause = match cause.kind() {
                ErrorKind::UnexpectedEof => io::Error::new(ErrorKind::UnexpectedEof, "the packed file ends too early"),
                _ => cause,
            };
            Err(DatasetError::Read {
                path: path.to_owned(),
                offset,
                cause,
            })
        }
    }
}
