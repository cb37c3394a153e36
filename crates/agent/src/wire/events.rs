//! Splits a stream into the data of its server-sent events, each byte read once, wherever the network cuts it.

use super::WireError;

/// What has come of the event that is not whole yet. It grows with what is pushed; whoever pushes sets the bound.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
}

impl Events {
    /// Takes the next bytes; gives the data of each event that they end. Other fields, comments and events
    /// without data are passed over.
    ///
    /// # Errors
    /// [`crate::turns::FailureKind::Garbage`] when an event's data is not UTF-8.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, WireError> {
        let mut whole = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            if let Some(data) = self.line_ends() {
                let data = String::from_utf8(data)
                    .map_err(|_| WireError::garbage("the model's provider sent an event that is not UTF-8 text"))?;
                whole.push(data);
            }
        }
        self.line.extend_from_slice(bytes);
        Ok(whole)
    }

    /// The event's data, if the line that ends is the empty one after it.
    fn line_ends(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            return self.data.take();
        }
        if let Some(more) = line.strip_prefix(b"data:") {
            let more = more.strip_prefix(b" ").unwrap_or(more);
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(more);
                }
                None => self.data = Some(more.to_vec()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_joined_over_lines_and_what_is_no_data_is_passed_over() {
        let text = "event: a\nid: 1\ndata: one\ndata:two\r\ndata\n\n: comment\n\nevent: b\n\ndata: \n\ndata: cut";
        let mut events = Events::default();
        let mut all = Vec::new();
        for byte in text.as_bytes() {
            all.extend(events.push(std::slice::from_ref(byte)).unwrap());
        }
        assert_eq!(all, ["one\ntwo", ""]);
        assert_eq!(Events::default().push(text.as_bytes()).unwrap(), all);
        assert!(Events::default().push(b"data: \xff\n\n").is_err());
    }
}
