//! The parts of a value that is a text (a key file, a file of settings): each word of it that could open something by itself.
//!
//! Whoever is given such a value prints it line by line, or says one word of it; as a whole it would then be found nowhere.
//! A word is taken where its line names a secret (`token: …`, `"private_key": …`), where it is the whole line, as in a key
//! file, and where it looks like chance. What is a name itself, an address without a sign-in or a plain setting (a project, a
//! user, a region) is everybody's word: runs could not speak of it any more.

use crate::MIN_BYTES;

/// Length from which a word that is taken for its place is one without a digit in it, in bytes.
const LONG: usize = 16;

/// What names of secrets hold, in any case.
const NAMES: [&str; 8] = ["pass", "pwd", "secret", "token", "key", "auth", "cred", "sign"];

/// The words of `value` that are looked for beside it, each at least [`MIN_BYTES`]; none of a value that is one word itself.
pub fn words(value: &str) -> impl Iterator<Item = &str> {
    let is_text = value.trim().contains(char::is_whitespace);
    let lines = if is_text { value } else { "" }.split(['\n', '\r']);
    lines.flat_map(|line| {
        let line = line.trim();
        let lower = line.to_lowercase();
        let named = NAMES.iter().any(|name| lower.contains(name));
        // A key in JSON has its line ends as two characters.
        let parts = line.split(['\t', ' ', '"', '\'', ',', '{', '}', '[', ']']).flat_map(|part| part.split("\\n"));
        parts.flat_map(move |part| taken(line, part, named)).collect::<Vec<_>>()
    })
}

/// What is taken of one part of a line.
fn taken<'v>(line: &'v str, part: &'v str, named: bool) -> impl Iterator<Item = &'v str> {
    let after = &line[part.as_ptr() as usize - line.as_ptr() as usize + part.len()..];
    let is_name = part.ends_with(':') || after.trim_start_matches(['"', '\'', ' ', '\t']).starts_with([':', '=']);
    let is_whole = part.len() == line.len();
    // `NAME=value`, but not what pads base 64.
    let part = match part.split_once('=') {
        Some((_, value)) if !value.trim_start_matches('=').is_empty() => value,
        _ => part,
    };
    let is_address = part.contains("://");
    let holds = |is: fn(&u8) -> bool| part.as_bytes().iter().any(is);
    let digit = holds(u8::is_ascii_digit);
    let in_place = is_whole || named && (digit || part.len() >= LONG);
    let by_chance = digit && holds(u8::is_ascii_uppercase) && holds(u8::is_ascii_lowercase);
    let is_one = match is_address {
        true => part.contains('@'),
        false => !is_name && (in_place || by_chance),
    };
    let is_one = is_one && part.len() >= MIN_BYTES;
    // Of `user:password` the second is said alone, too.
    let second = part.rsplit_once(':').map(|(_, second)| second).filter(|second| second.len() >= MIN_BYTES);
    [is_one.then_some(part), second.filter(|_| is_one && !is_address)].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(value: &str) -> Vec<&str> {
        words(value).collect()
    }

    #[test]
    fn a_value_of_one_word_has_no_words_beside_it() {
        for one in ["sk-canary-0123456789", "user:password-0123456789", ""] {
            assert_eq!(all(one), [""; 0], "{one}");
        }
    }

    #[test]
    fn each_line_of_a_key_is_a_word_and_its_frame_is_none() {
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n  AAAAB3Nz\r\nQyNTUxOQA=\n\
                   -----END OPENSSH PRIVATE KEY-----\n";
        assert_eq!(all(key), ["b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ", "AAAAB3Nz", "QyNTUxOQA="]);
    }

    #[test]
    fn of_an_accounts_json_the_key_is_found_line_by_line_and_no_name_address_or_project_is() {
        let json = "{\n  \"type\": \"service_account\",\n  \"project_id\": \"acme-prod-1234\",\n  \"private_key_id\": \"0a1b2c3d4e5f\",\n  \
                    \"private_key\": \"-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkq\\nhkiG9w0BAQEFAASC\\n-----END PRIVATE KEY-----\\n\",\n  \
                    \"client_email\": \"ci@acme-prod-1234.example\",\n  \
                    \"auth_provider_x509_cert_url\": \"https://www.example.org/oauth2/v1/certs\"\n}\n";
        assert_eq!(all(json), ["0a1b2c3d4e5f", "MIIEvQIBADANBgkq", "hkiG9w0BAQEFAASC"]);
    }

    #[test]
    fn of_settings_the_secrets_are_found_however_they_are_written_and_the_rest_is_everybodys() {
        let settings = "apiVersion: v1\nkind: Config\nserver: https://k.example:6443\nclient-key-data: LS0tLS1CRUdJTg==\n\
                        token = abc-123-def\nregion = eu-central-1\nurl: postgres://ci:hunter2@db/x\nPASSWORD=hunter2-hunter2\n\
                        login robot password pass-0123\nnote: plain words in a sentence\n";
        let expected =
            ["LS0tLS1CRUdJTg==", "abc-123-def", "postgres://ci:hunter2@db/x", "hunter2-hunter2", "pass-0123"];
        assert_eq!(all(settings), expected);
        assert_eq!(all("machine x\nci:pass-0123"), ["ci:pass-0123", "pass-0123"]);
    }
}
