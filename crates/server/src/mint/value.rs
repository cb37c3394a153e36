//! A value as a vendor made it: what of it is kept, in which form it is delivered, and which parts of it open something.

use crate::secrets;
use api::grants::WireSecret;
use model::capability::Delivery;
use model::{Moment, Secret};
use serde::{Deserialize, Serialize};

/// How much longer than was asked for a value may live, in milliseconds: its vendor counts from when it was reached, by a
/// clock of its own.
const SKEW_MS: i64 = 300_000;

/// A value as its vendor made it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Minted {
    /// A bearer token.
    Token(WireSecret),
    /// A session: three values, and their end as the vendor wrote it.
    Aws { id: String, key: WireSecret, session: WireSecret, until: String },
}

/// Where a value is ended by whoever has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) base: String,
    pub(super) internal: bool,
}

/// What is kept, sealed, of a value.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) value: Minted,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<End>,
}

/// What a vendor's answer means.
pub(super) enum Said {
    /// It made this, and it is as narrow as was asked for.
    Value { kept: Kept, until: Option<Moment> },
    /// It made this, and it is not.
    Wider { kept: Kept, until: Option<Moment>, why: String },
    /// It made none.
    Refused(String),
    /// It may have made one, and there is none here.
    Unknown(String),
}

impl Said {
    /// The same, unless what came at `at` lives longer than was asked for (`longest`), is over, or does not say when it
    /// will be: that is not what was asked for.
    pub(super) fn within(self, longest: Moment, at: Moment) -> Self {
        let Self::Value { kept, until } = self else { return self };
        let why = match until {
            None => "The vendor's value does not say when it ends.".to_owned(),
            Some(until) if until <= at => "The vendor's value is over already.".to_owned(),
            Some(until) if until > longest.plus_ms(SKEW_MS) => {
                format!("The vendor's value lives {} s longer than was asked for.", until.since(longest) / 1000)
            }
            Some(_) => return Self::Value { kept, until },
        };
        Self::Wider { kept, until, why }
    }
}

impl Minted {
    /// What in it opens something by itself.
    pub(super) fn parts(&self) -> Vec<Secret<String>> {
        match self {
            Self::Token(token) => vec![token.0.share()],
            Self::Aws { key, session, .. } => vec![key.0.share(), session.0.share()],
        }
    }

    /// As it is delivered: a token as it is; a session as a file of credentials, or on standard input as the JSON that a
    /// `credential_process` prints.
    pub(super) fn delivered(&self, delivery: &Delivery) -> Secret<String> {
        match self {
            Self::Token(token) => token.0.share(),
            Self::Aws { id, key, session, until } if *delivery == Delivery::Stdin => Secret::new(format!(
                "{{\"Version\":1,\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"{}\",\"SessionToken\":\"{}\",\
                 \"Expiration\":\"{until}\"}}\n",
                key.0.expose(),
                session.0.expose()
            )),
            Self::Aws { id, key, session, .. } => Secret::new(format!(
                "[default]\naws_access_key_id = {id}\naws_secret_access_key = {}\naws_session_token = {}\n",
                key.0.expose(),
                session.0.expose()
            )),
        }
    }
}

/// Whether a value can be kept and sent: printable, as long as any secret, and JSON and files take it as it is.
pub(super) fn sendable(value: &Secret<String>) -> bool {
    let text = value.expose();
    (secrets::MIN_VALUE..=secrets::MAX_VALUE).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

/// A time as vendors write it (RFC 3339).
pub(super) fn moment(text: &str) -> Option<Moment> {
    text.parse::<jiff::Timestamp>().ok().map(|time| Moment(time.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(text: &str) -> WireSecret {
        WireSecret(Secret::new(text.to_owned()))
    }

    #[test]
    fn a_session_is_delivered_as_a_file_of_credentials_or_as_the_json_of_a_process_and_both_parts_are_known() {
        let aws = Minted::Aws {
            id: "ASIAEXAMPLE".into(),
            key: secret("key/+=0123456789"),
            session: secret("session/+=0123456789"),
            until: "2026-07-11T22:14:10Z".into(),
        };
        let file = aws.delivered(&Delivery::File("AWS_SHARED_CREDENTIALS_FILE".into()));
        let lines: Vec<&str> = file.expose().lines().collect();
        let expected = [
            "[default]",
            "aws_access_key_id = ASIAEXAMPLE",
            "aws_secret_access_key = key/+=0123456789",
            "aws_session_token = session/+=0123456789",
        ];
        assert_eq!(lines, expected);
        let process: serde_json::Value = serde_json::from_str(aws.delivered(&Delivery::Stdin).expose()).unwrap();
        assert_eq!((&process["Version"], &process["SessionToken"]), (&json!(1), &json!("session/+=0123456789")));
        let parts: Vec<String> = aws.parts().iter().map(|part| part.expose().clone()).collect();
        assert_eq!(parts, ["key/+=0123456789", "session/+=0123456789"]);
    }

    #[test]
    fn what_is_kept_is_read_back_and_not_printed() {
        let end = Some(End { base: "https://api.github.com".into(), internal: false });
        let kept = Kept { value: Minted::Token(secret("ghs_canary0123")), end };
        assert!(!format!("{kept:?}").contains("canary"), "{kept:?}");
        let back: Kept = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
        assert_eq!(back.value.parts()[0].expose(), "ghs_canary0123");
        assert!(back.end.is_some());
    }

    #[test]
    fn a_value_that_lives_longer_than_was_asked_for_or_is_over_or_has_no_end_is_not_what_was_asked_for() {
        let (at, longest) = (Moment(1_000_000), Moment(1_600_000));
        let said = |until: Option<i64>| {
            let kept = Kept { value: Minted::Token(secret("ghs_canary0123")), end: None };
            Said::Value { kept, until: until.map(Moment) }.within(longest, at)
        };
        for good in [1_000_001, 1_600_000, 1_600_000 + SKEW_MS] {
            assert!(matches!(said(Some(good)), Said::Value { .. }), "{good}");
        }
        for bad in [None, Some(0), Some(1_000_000), Some(1_600_001 + SKEW_MS), Some(31_536_000_000)] {
            assert!(matches!(said(bad), Said::Wider { until, .. } if until == bad.map(Moment)), "{bad:?}");
        }
    }

    #[test]
    fn a_value_that_a_file_or_json_would_change_is_not_kept() {
        for (text, may) in [("ghs_0123456789", true), ("a b c d e f", false), ("0123456\"789", false), ("short", false)]
        {
            assert_eq!(sendable(&Secret::new(text.to_owned())), may, "{text}");
        }
    }
}
