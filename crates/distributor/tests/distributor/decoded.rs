//! Uploads that a decoder made profiles of.

use scoria_distributor::{DecodedProfile, DecodedUpload, Outcome, SentAs, UploadDigest};
use scoria_model::{DiscardReason, Limits, TenantId};
use scoria_pprof::{Draft, DraftError};

use crate::support::House;

fn profile(house: &House, labels: &[(&str, &str)], value: i64) -> DecodedProfile {
    let terms = house.distributor.draft_terms(&TenantId::anonymous());
    let filled = || -> Result<Draft, DraftError> {
        let mut draft = Draft::new(&terms)?;
        draft.set_types(&[("cpu", "nanoseconds")])?;
        let main = draft.frame(b"main")?;
        draft.add_sample(&[main], &[value], &[])?;
        Ok(draft)
    };
    let labels = labels.iter();
    DecodedProfile {
        labels: labels
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        draft: filled().expect("there is memory for a sample"),
        id: String::new(),
    }
}

fn upload(body: &[u8], profiles: Vec<DecodedProfile>) -> DecodedUpload {
    DecodedUpload {
        digest: UploadDigest::of(&[b"test", body]),
        wire_bytes: body.len() as u64,
        sent_as: SentAs::Text,
        sender: vec![("service_name".to_owned(), "api".to_owned())],
        profiles,
    }
}

const CPU: [(&str, &str); 2] = [("__name__", "process_cpu"), ("service_name", "api")];
const WALL: [(&str, &str); 2] = [("__name__", "wall"), ("service_name", "api")];

#[tokio::test]
async fn an_upload_is_one_append_and_its_resend_is_recognised_whole() {
    let house = House::new(Limits::default());
    let tenant = TenantId::anonymous();
    // Two profiles alike but for their place: neither is a resend of the other.
    let profiles = || {
        vec![
            profile(&house, &CPU, 1),
            profile(&house, &WALL, 2),
            profile(&house, &WALL, 2),
        ]
    };
    for outcome in [Outcome::Stored, Outcome::Duplicate] {
        let upload = upload(b"one", profiles());
        let summary = house.distributor.push_decoded(&tenant, upload).await;
        assert_eq!(summary.unwrap().outcomes, [outcome; 3]);
    }
    let other = upload(b"another", profiles());
    let summary = house.distributor.push_decoded(&tenant, other).await;
    assert_eq!(summary.unwrap().outcomes, [Outcome::Stored; 3]);
    assert_eq!(house.ingester.calls(), [3, 3, 3]);
    assert_eq!(house.bodies.used(), 0);
}

#[tokio::test]
async fn a_bad_profile_does_not_take_the_others_with_it() {
    let house = House::new(Limits::default());
    let profiles = vec![
        profile(&house, &CPU, 1),
        profile(&house, &[("service_name", "api")], 2),
        profile(&house, &WALL, 0),
    ];
    let pushed = upload(b"one", profiles);
    let tenant = TenantId::anonymous();
    let error = house.distributor.push_decoded(&tenant, pushed).await;
    let outcomes = error.unwrap_err().outcomes;
    assert_eq!(outcomes[0], Ok(Outcome::Stored));
    let refusal = outcomes[1].as_ref().unwrap_err();
    assert_eq!(refusal.kind.reason(), DiscardReason::InvalidLabels);
    assert_eq!(outcomes[2], Ok(Outcome::Empty));
}

#[tokio::test]
async fn an_upload_without_profiles_is_counted() {
    let house = House::new(Limits::default());
    let upload = upload(b"nothing", Vec::new());
    let tenant = TenantId::anonymous();
    let summary = house.distributor.push_decoded(&tenant, upload).await;
    assert_eq!(summary.unwrap().outcomes, [Outcome::Empty]);
    assert_eq!(house.discarded("empty_profile"), 1);
}
