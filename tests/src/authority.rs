//! A certificate for this machine by an authority that nobody knows.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Made anew each time; texts are PEM.
#[derive(Debug)]
pub struct Authority {
    /// The authority's own certificate: what one has to trust.
    pub authority: String,
    pub certificate: String,
    pub key: String,
    /// The certificate and its key in DER, the latter as PKCS #8.
    pub der: (Vec<u8>, Vec<u8>),
}

impl Authority {
    /// One that vouches for 127.0.0.1.
    ///
    /// # Panics
    /// If no key can be made.
    pub fn new() -> Self {
        let key = || KeyPair::generate().expect("a key");
        let named = |names: Vec<String>| CertificateParams::new(names).expect("sound names");
        let mut authority = named(Vec::new());
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = key();
        let signed = authority.self_signed(&authority_key).expect("signed");
        let issuer = Issuer::new(authority, authority_key);
        let server_key = key();
        let server = named(vec!["127.0.0.1".to_owned()]);
        let server = server.signed_by(&server_key, &issuer).expect("signed");
        Self {
            authority: signed.pem(),
            certificate: server.pem(),
            key: server_key.serialize_pem(),
            der: (server.der().to_vec(), server_key.serialize_der()),
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
