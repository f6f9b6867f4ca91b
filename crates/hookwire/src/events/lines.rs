//! One line after the other, each within a limit.

use std::io::{self, BufRead};

/// What came of reading a line.
pub(super) enum Line {
    Read,
    /// It is longer than an event may be: so many bytes.
    TooLong(u64),
    End,
}

/// Reads a line without its end; one that is too long is passed over and counted.
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>, bytes_max: u64) -> io::Result<Line> {
    let mut read = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        let used = piece.len() + usize::from(end.is_some());
        read += used as u64;
        // Room for the carriage return that some files have.
        if line.len() as u64 + piece.len() as u64 <= bytes_max.saturating_add(1) {
            line.extend_from_slice(piece);
        } else {
            reader.consume(used);
            return pass_over(reader, end.is_some(), read);
        }
        reader.consume(used);
        if end.is_some() {
            break;
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    match line.len() as u64 {
        _ if read == 0 => Ok(Line::End),
        bytes if bytes > bytes_max => Ok(Line::TooLong(bytes)),
        _ => Ok(Line::Read),
    }
}

/// Reads to the end of a line, and gives its size.
fn pass_over(reader: &mut impl BufRead, mut ended: bool, mut read: u64) -> io::Result<Line> {
    let mut end = u64::from(ended);
    while !ended {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let found = buffer.iter().position(|byte| *byte == b'\n');
        let used = found.map_or(buffer.len(), |at| at + 1);
        ended = found.is_some();
        end = u64::from(ended);
        read += used as u64;
        reader.consume(used);
    }
    Ok(Line::TooLong(read - end))
}
