//! Trust in the run's own certificate authority, and the way to the door: files in the box's scratch space and the
//! env vars by which the usual tools find them, so that none needs a flag.
//!
//! Nothing here is a wall. What the gateway opens, it opens whatever a box believes of it; a box that deletes these
//! files has only made its own tools distrust it. The agent needs neither: it speaks plain HTTP to the door.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Where the files stand in the box.
const FOLDER: &str = "/tmp/trust";
/// The authorities of the host's listed tree; what a blind tunnel ends at is checked against them.
const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The door, as a proxy.
const PROXY: &str = "http://127.0.0.1:8080";
/// What is reached without it.
const DIRECT: &str = "localhost,127.0.0.1,::1";

/// Env vars of commands, by name.
pub type EnvVars = Vec<(String, String)>;

/// Places the files for `authority` (one certificate, PEM) and gives the env vars that name them.
///
/// # Errors
/// When `authority` is no certificate in PEM, or the files cannot be written.
pub fn place(authority: &str) -> io::Result<EnvVars> {
    place_in(Path::new(FOLDER), authority)
}

/// The same in another folder.
///
/// # Errors
/// As [`place`].
pub fn place_in(folder: &Path, authority: &str) -> io::Result<EnvVars> {
    place_beside(folder, Path::new(SYSTEM_BUNDLE), authority)
}

fn place_beside(folder: &Path, system: &Path, authority: &str) -> io::Result<EnvVars> {
    let der = der(authority).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no certificate in PEM"))?;
    std::fs::DirBuilder::new().mode(0o755).recursive(true).create(folder)?;
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (own, bundle, java, wget) = (file("authority.pem"), file("bundle.pem"), file("java.jks"), file("wgetrc"));
    // A host whose tree lists no authorities has none to lose.
    let others = std::fs::read_to_string(system).unwrap_or_default();
    std::fs::write(&own, authority)?;
    std::fs::write(&bundle, format!("{authority}\n{others}"))?;
    std::fs::write(&java, java_store(&der))?;
    std::fs::write(&wget, format!("ca_certificate = {bundle}\n"))?;
    let mut vars: EnvVars = Vec::new();
    let mut set = |names: &[&str], value: &str| {
        vars.extend(names.iter().map(|name| ((*name).to_owned(), value.to_owned())));
    };
    // curl and many of its users read the small names only: the large one could come from a request's header in CGI.
    set(&["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"], PROXY);
    set(&["no_proxy", "NO_PROXY"], DIRECT);
    set(&["NODE_USE_ENV_PROXY"], "1");
    let of_bundle = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO"];
    set(&of_bundle, &bundle);
    set(&["CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE", "DENO_CERT"], &bundle);
    set(&["NODE_EXTRA_CA_CERTS"], &own);
    set(&["WGETRC"], &wget);
    let java = format!(
        "-Djavax.net.ssl.trustStore={java} -Djavax.net.ssl.trustStoreType=JKS \
         -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=8080 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8080"
    );
    set(&["JAVA_TOOL_OPTIONS"], &java);
    Ok(vars)
}

/// The first certificate of a PEM text.
fn der(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).ok().filter(|der| !der.is_empty())
}

/// Java's own format of a store ("JKS", version 2) with one trusted certificate.
///
/// The twenty bytes at its end are a digest over a password. Java looks at them only when it is given a password,
/// and for trust it is given none; so they are zero.
fn java_store(der: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(der.len() + 64);
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
        out.extend(text.as_bytes());
    };
    out.extend(0xFEED_FEED_u32.to_be_bytes());
    out.extend(2u32.to_be_bytes());
    out.extend(1u32.to_be_bytes());
    // A trusted certificate, its name, and when it came: never asked for.
    out.extend(2u32.to_be_bytes());
    text(&mut out, "volary");
    out.extend(0u64.to_be_bytes());
    text(&mut out, "X.509");
    out.extend(u32::try_from(der.len()).unwrap_or(0).to_be_bytes());
    out.extend(der);
    out.extend([0; 20]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAQID\nBAU=\n-----END CERTIFICATE-----\n";

    #[test]
    fn every_file_that_a_variable_names_is_there_and_the_bundle_holds_both() {
        let folder = std::env::temp_dir().join(format!("runner-trust-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let system = folder.join("system.pem");
        std::fs::write(&system, "THE SYSTEM'S").unwrap();
        let vars = place_beside(&folder.join("in"), &system, PEM).unwrap();
        let named: Vec<&str> = vars.iter().map(|(_, value)| value.as_str()).filter(|v| v.starts_with('/')).collect();
        assert_eq!(named.len(), 10);
        for file in &named {
            assert!(Path::new(file).is_file(), "{file}");
        }
        let bundle = std::fs::read_to_string(folder.join("in/bundle.pem")).unwrap();
        assert!(bundle.starts_with(PEM) && bundle.contains("THE SYSTEM'S"));
        let store = std::fs::read(folder.join("in/java.jks")).unwrap();
        assert_eq!(&store[..8], &[0xFE, 0xED, 0xFE, 0xED, 0, 0, 0, 2]);
        assert!(store.windows(9).any(|window| window == [0, 0, 0, 5, 1, 2, 3, 4, 5]));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for text in ["", "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"] {
            assert_eq!(der(text), None, "{text:?}");
        }
    }
}
