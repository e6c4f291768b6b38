//! The frame of a contribution, as the local BSP module writes it.

use serde::Serialize;

use super::{LENGTH_BYTES, MAX_HEADER_BYTES, ReadOut, max_frame_bytes};

/// The buffer of one read-out's frame: made once, filled again and again, without allocating.
///
/// The payload has its place before the header is known, because what the header says is learned while the ML modules'
/// sums are merged. So the header is written backwards from the payload, and the frame begins where the header does.
#[derive(Debug)]
pub struct ReadOutFrame {
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
}

const PAYLOAD_BEGIN: usize = LENGTH_BYTES + MAX_HEADER_BYTES;

impl ReadOutFrame {
    /// A buffer for read-outs of a model of `parameters` parameters, whatever their codec.
    pub fn new(parameters: usize) -> ReadOutFrame {
        ReadOutFrame {
            buffer: vec![0; max_frame_bytes(parameters)].into_boxed_slice(),
            begin: PAYLOAD_BEGIN,
            end: PAYLOAD_BEGIN,
        }
    }

    /// Room for a payload of `bytes` bytes, which is to be overwritten.
    pub fn payload_mut(&mut self, bytes: usize) -> &mut [u8] {
        self.end = PAYLOAD_BEGIN + bytes;
        &mut self.buffer[PAYLOAD_BEGIN..self.end]
    }

    /// Writes the header.
    ///
    /// # Errors
    /// A header that is longer than [`MAX_HEADER_BYTES`]: it lists more than [`super::MAX_STEP_RUNS`] runs.
    pub fn seal(&mut self, read_out: &ReadOut) -> Result<(), postcard::Error> {
        /// `FromVolunteer` with its first variant borrowed, so that a read-out's list of runs keeps its memory.
        #[derive(Serialize)]
        enum Borrowed<'a> {
            ReadOut(&'a ReadOut),
        }
        let mut header = [0; MAX_HEADER_BYTES];
        let length = postcard::to_slice(&Borrowed::ReadOut(read_out), &mut header)?.len();
        let header_begin = PAYLOAD_BEGIN - length;
        self.begin = header_begin - LENGTH_BYTES;
        self.buffer[header_begin..PAYLOAD_BEGIN].copy_from_slice(&header[..length]);
        self.buffer[self.begin..header_begin].copy_from_slice(&(length as u32).to_le_bytes());
        Ok(())
    }

    /// The frame, as it was sealed last.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer[self.begin..self.end]
    }
}
