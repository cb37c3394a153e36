//! Rows of a profile as a person writes them, for tests whose subject is something else than the row.

/// A row `[[capability]]` by which a shell (`/usr/bin/sh`) is given a secret for one destination, for as long as a profile
/// may say (600 s). `delivery` is TOML, as `"stdin"` in its quotes or `{ variable = "TOKEN" }`.
#[must_use]
pub fn shell_capability(name: &str, secret: &str, destination: &str, delivery: &str) -> String {
    format!(
        "[[capability]]\nname = {name:?}\nsecret = {secret:?}\nkind = \"command\"\ndestinations = [{destination:?}]\n\
         delivery = {delivery}\nexecutables = [\"/usr/bin/sh\"]\nseconds = 600\n"
    )
}
