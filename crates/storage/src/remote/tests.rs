use super::*;

fn bucket(service: Service) -> Bucket {
    Bucket {
        service,
        name: "profiles".into(),
        prefix: "a/b".into(),
    }
}

fn keys() -> Credentials {
    Credentials::Static {
        access_key_id: "AKIAEXAMPLE".into(),
        secret_access_key: Secret("hunter2".into()),
        session_token: Secret::default(),
    }
}

#[test]
fn secrets_are_not_shown() {
    let settings = ClientSettings {
        credentials: keys(),
        ..ClientSettings::default()
    };
    let shown = format!("{settings:?}");
    assert!(shown.contains("AKIAEXAMPLE") && shown.contains("***"));
    assert!(!shown.contains("hunter2"), "{shown}");
    let store = client(&bucket(Service::S3), &settings).unwrap();
    assert!(!format!("{store:?}{}", store.objects).contains("hunter2"));
}

#[test]
fn the_bucket_goes_into_the_host_once() {
    for (endpoint, expected) in [
        ("https://s3.example:9000", "https://b.s3.example:9000"),
        ("https://s3.example/", "https://b.s3.example"),
        ("https://b.s3.example", "https://b.s3.example"),
    ] {
        assert_eq!(in_host(endpoint, "b"), expected);
    }
    assert!(is_plain("HTTP://127.0.0.1:1"));
    assert!(!is_plain("https://x"));
}

#[test]
fn every_service_builds_a_client_without_sending_anything() {
    let settings = |endpoint: Option<&str>, credentials: Credentials| ClientSettings {
        endpoint: endpoint.map(str::to_owned),
        credentials,
        azure_account: Some("account".into()),
        ..ClientSettings::default()
    };
    let azure_keys = Credentials::Static {
        access_key_id: "account".into(),
        secret_access_key: Secret("c2VjcmV0".into()),
        session_token: Secret::default(),
    };
    client(&bucket(Service::S3), &settings(None, keys())).unwrap();
    client(
        &bucket(Service::S3),
        &settings(Some("http://127.0.0.1:1"), Credentials::Anonymous),
    )
    .unwrap();
    client(
        &bucket(Service::Google),
        &settings(Some("http://127.0.0.1:1"), Credentials::Anonymous),
    )
    .unwrap();
    client(&bucket(Service::Azure), &settings(None, azure_keys)).unwrap();
}

#[test]
fn a_certificate_that_is_none_is_refused() {
    let settings = ClientSettings {
        credentials: keys(),
        ca_pem: Some(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n".to_vec()),
        ..ClientSettings::default()
    };
    assert!(client(&bucket(Service::S3), &settings).is_err());
}
