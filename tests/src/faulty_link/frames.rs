//! Where frames begin and end in the bytes of a WebSocket, so that a link can be cut within one.

/// A frame of at least this many bytes is a contribution or a model.
const LONG: u64 = 1_000;
const BLANK_LINE: &[u8] = b"\r\n\r\n";
/// The length that follows is in 2 bytes, or in 8.
const LENGTH_IN_2: u8 = 126;
const LENGTH_IN_8: u8 = 127;

/// The bytes of one direction, followed from the connection's beginning.
pub(super) struct Frames(Place);

enum Place {
    /// In the head of the request, or of its answer.
    Head(Vec<u8>),
    /// In the header of a frame.
    Header(Vec<u8>),
    Payload {
        length: u64,
        left: u64,
    },
    /// It is no WebSocket.
    Other,
}

impl Frames {
    pub(super) fn new() -> Frames {
        Frames(Place::Head(Vec::new()))
    }

    /// Follows these bytes. Returns how many of them lead to the middle of the first long frame whose middle they
    /// reach.
    pub(super) fn middle_of_a_long_one(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut middle = None;
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.0 {
                Place::Other => return middle,
                Place::Head(head) => {
                    head.push(bytes[at]);
                    at += 1;
                    if head.ends_with(BLANK_LINE) {
                        let is_socket = head.starts_with(b"GET /ws ") || head.starts_with(b"HTTP/1.1 101 ");
                        self.0 = match is_socket {
                            true => Place::Header(Vec::new()),
                            false => Place::Other,
                        };
                    }
                }
                Place::Header(header) => {
                    header.push(bytes[at]);
                    at += 1;
                    if let Some(length) = payload_length(header) {
                        self.0 = payload(length, length);
                    }
                }
                Place::Payload { length, left } => {
                    let (length, before) = (*length, *left);
                    let step = before.min((bytes.len() - at) as u64);
                    let after = before - step;
                    if length >= LONG && before > length / 2 && after <= length / 2 {
                        middle.get_or_insert(at + (before - length / 2) as usize);
                    }
                    at += step as usize;
                    self.0 = payload(length, after);
                }
            }
        }
        middle
    }
}

fn payload(length: u64, left: u64) -> Place {
    match left {
        0 => Place::Header(Vec::new()),
        left => Place::Payload { length, left },
    }
}

/// The length of the payload behind this header, once the header is whole.
fn payload_length(header: &[u8]) -> Option<u64> {
    let [_, second, rest @ ..] = header else { return None };
    let (short, is_masked) = (second & 0x7f, second & 0x80 != 0);
    let length_bytes = match short {
        LENGTH_IN_2 => 2,
        LENGTH_IN_8 => 8,
        _ => 0,
    };
    let mask_bytes = if is_masked { 4 } else { 0 };
    if rest.len() < length_bytes + mask_bytes {
        return None;
    }
    let long = rest[..length_bytes]
        .iter()
        .fold(0, |length, byte| length << 8 | u64::from(*byte));
    Some(if length_bytes == 0 { u64::from(short) } else { long })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found_however_the_bytes_are_cut() {
        let mut bytes = b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        bytes.extend([0x82, 0x83, 1, 2, 3, 4, 7, 7, 7]);
        bytes.extend([0x82, 0x80 | LENGTH_IN_2, 0x04, 0x00, 1, 2, 3, 4]);
        let expected = bytes.len() + 512;
        bytes.extend([9; 1024]);
        for step in [1, 7, 100, bytes.len()] {
            let mut frames = Frames::new();
            let mut found = Vec::new();
            for (index, chunk) in bytes.chunks(step).enumerate() {
                found.extend(frames.middle_of_a_long_one(chunk).map(|at| index * step + at));
            }
            assert_eq!(found, [expected], "in steps of {step}");
        }
    }

    #[test]
    fn other_requests_have_no_frames() {
        let mut bytes = b"GET /shards/1 HTTP/1.1\r\n\r\n".to_vec();
        bytes.extend([LENGTH_IN_2; 5000]);
        assert_eq!(Frames::new().middle_of_a_long_one(&bytes), None);
    }
}
