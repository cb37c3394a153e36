//! A run's own certificate authority: what its box trusts, and nobody else.
//!
//! Its key is made when the run is attached and never leaves this process's memory; it signs nothing after the
//! run is gone. It vouches only for hosts that policy let this run ask for.
//!
//! Read [`Authority::new`], then [`Authority::leaf`].

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Hosts of one run whose certificates are kept; one more, and they are made anew as they are asked for.
const KEPT_LEAVES: usize = 256;
/// How far from now certificates are valid, each way: clocks differ, and no run lives as long.
const VALID: Duration = Duration::from_secs(7 * 86_400);

/// A run's authority.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The key of every certificate it signs: one run, one key.
    key: KeyPair,
    leaves: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl Authority {
    /// A new authority, with a name of its own so that two are never taken for each other.
    ///
    /// # Errors
    /// When no key can be made: the system gives no randomness.
    pub(crate) fn new(run: &model::RunId) -> anyhow::Result<Self> {
        let mut params = params(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, format!("Volary run {run}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("no authority was made")?;
        Ok(Self { issuer, key: KeyPair::generate()?, leaves: Mutex::default() })
    }

    /// Its certificate, in PEM: what the box is to trust.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// TLS as `host` (a name or an address, without brackets), offering HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When `host` cannot stand in a certificate.
    pub(crate) fn leaf(&self, host: &str) -> anyhow::Result<Arc<ServerConfig>> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = leaves.get(host) {
            return Ok(known.clone());
        }
        let config = Arc::new(self.sign(host)?);
        if leaves.len() == KEPT_LEAVES {
            leaves.clear();
        }
        leaves.insert(host.to_owned(), config.clone());
        Ok(config)
    }

    fn sign(&self, host: &str) -> anyhow::Result<ServerConfig> {
        let mut params = params(vec![host.to_owned()])?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // A common name is 64 characters at most; the name that counts is the alternative one.
        params.distinguished_name.push(DnType::CommonName, host.chars().take(64).collect::<String>());
        let leaf = params.signed_by(&self.key, &self.issuer).context("no certificate was signed")?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone(), self.issuer.der().clone()], key)
            .context("the certificate does not fit its key")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn params(names: Vec<String>) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names).context("this is no name for a certificate")?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let now = SystemTime::now();
    params.not_before = (now - VALID).into();
    params.not_after = (now + VALID).into();
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> Authority {
        // Another test may have been first.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        Authority::new(&model::RunId::parse("run1").unwrap()).unwrap()
    }

    #[test]
    fn two_runs_have_two_authorities() {
        assert_ne!(authority().pem(), authority().pem());
    }

    #[test]
    fn a_host_has_one_certificate_while_it_is_kept_and_no_more_are_kept_than_256() {
        let authority = authority();
        let first = authority.leaf("host.example").unwrap();
        assert!(Arc::ptr_eq(&first, &authority.leaf("host.example").unwrap()));
        for n in 1..=KEPT_LEAVES {
            authority.leaf(&format!("h{n}.example")).unwrap();
            assert!(authority.leaves.lock().unwrap().len() <= KEPT_LEAVES);
        }
        assert!(!Arc::ptr_eq(&first, &authority.leaf("host.example").unwrap()));
    }

    #[test]
    fn names_and_addresses_can_be_vouched_for() {
        for host in ["a.example", "93.184.216.34", "2606:4700::1111", "under_score.example"] {
            authority().leaf(host).unwrap();
        }
    }
}
