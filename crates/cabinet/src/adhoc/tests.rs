use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object_store::memory::InMemory;
use scoria_pprof::ProfileEncoder;
use scoria_pprof::encode::FunctionRow;
use scoria_storage::Metrics;
use serde_json::{Value, json};

use super::*;

fn profiles() -> AdHocProfiles {
    let files = TenantFiles::new(Arc::new(InMemory::new()), Metrics::unregistered());
    AdHocProfiles::new(files, ByteBudget::new("test", 1 << 30))
}

fn limits() -> Limits {
    Limits::default()
}

fn drawing<'a>(limits: &'a Limits, profile_type: Option<&'a str>) -> Drawing<'a> {
    Drawing {
        profile_type,
        max_nodes: None,
        limits,
    }
}

/// `main;work` and `main`, with a count and a time each.
fn pprof() -> Vec<u8> {
    let mut profile = ProfileEncoder::new();
    profile.sample_type("samples", "count");
    profile.sample_type("cpu", "nanoseconds");
    let locations: Vec<u64> = ["main", "work"]
        .iter()
        .map(|name| {
            let function = profile.function(&FunctionRow {
                name,
                ..FunctionRow::default()
            });
            profile.location(0, 0, &[(function, 1)])
        })
        .collect();
    let bare = profile.location(0, 0x1234, &[]);
    profile.sample([locations[1], locations[0]], &[2, 20], &[]);
    profile.sample([locations[0]], &[1, 10], &[]);
    profile.sample([bare, locations[0]], &[3, 30], &[]);
    profile.finish()
}

async fn upload(
    profiles: &AdHocProfiles,
    name: &str,
    body: &[u8],
) -> Result<AdHocView, CabinetError> {
    let text = STANDARD.encode(body);
    let limits = limits();
    let now = Timestamp(1_700_000_000_123_000_000);
    let tenant = TenantId::anonymous();
    profiles
        .upload(&tenant, (name, &text), &drawing(&limits, None), now)
        .await
}

/// Own values by name.
fn own(view: &AdHocView) -> Vec<(String, i64)> {
    let body: Value = serde_json::from_str(&view.drawn.flamebearer).unwrap();
    let names = body["flamebearer"]["names"].as_array().unwrap();
    let mut found = Vec::new();
    for level in body["flamebearer"]["levels"].as_array().unwrap() {
        for bar in level.as_array().unwrap().chunks(4) {
            let name = &names[usize::try_from(bar[3].as_u64().unwrap()).unwrap()];
            if bar[2] != 0 {
                found.push((name.as_str().unwrap().to_owned(), bar[2].as_i64().unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn named(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected
        .iter()
        .map(|(n, v)| ((*n).to_owned(), *v))
        .collect()
}

#[tokio::test]
async fn a_pprof_of_two_types() {
    let profiles = profiles();
    let tenant = TenantId::anonymous();
    let limits = limits();
    let view = upload(&profiles, "../my profile.pb.gz", &pprof())
        .await
        .unwrap();
    assert_eq!(view.drawn.profile_types, ["samples", "cpu"]);
    assert_eq!(view.drawn.profile_type, "samples");
    assert_eq!(view.entry.name, "..myprofile.pb.gz");
    assert_eq!(view.entry.uploaded_at_ms, 1_700_000_000_123);
    assert_eq!(
        own(&view),
        named(&[("0x1234", 3), ("main", 1), ("work", 2)])
    );

    let id = view.entry.id.clone();
    let cpu = profiles
        .get(&tenant, &id, &drawing(&limits, Some("cpu")))
        .await
        .unwrap();
    assert_eq!(cpu.drawn.profile_type, "cpu");
    assert_eq!(
        own(&cpu),
        named(&[("0x1234", 30), ("main", 10), ("work", 20)])
    );
    assert_eq!(cpu.entry, view.entry, "an id says what its entry says");
    let bad = profiles
        .get(&tenant, &id, &drawing(&limits, Some("heap")))
        .await;
    assert_eq!(bad.unwrap_err().kind, CabinetErrorKind::Invalid);

    let other = TenantId::parse("other").unwrap();
    let hidden = profiles.get(&other, &id, &drawing(&limits, None)).await;
    assert_eq!(hidden.unwrap_err().kind, CabinetErrorKind::NotFound);
    for bad in ["", "x", "../../x", &id.replace('-', "/")] {
        let refused = profiles.get(&tenant, bad, &drawing(&limits, None)).await;
        assert_eq!(
            refused.unwrap_err().kind,
            CabinetErrorKind::Invalid,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn every_form_gives_the_same_graph() {
    let profiles = profiles();
    let expected = named(&[("main", 1), ("work", 2)]);
    let collapsed = upload(&profiles, "a.txt", b"main;work 2\nmain 1\n")
        .await
        .unwrap();
    assert_eq!(own(&collapsed), expected);
    let perf = b"# cmdline\nshop 12/13 [001] 1.5: 250 cycles:\n\t7f0 work+0x1f (/bin/shop)\n\t7f1 main+0x2 (/bin/shop)\n\nshop 12/13 [001] 1.6: 250 cycles:\n\t7f0 work+0x1f (/bin/shop)\n\t7f1 main+0x2 (/bin/shop)\n\nshop 12/13 [001] 1.7: 250 cycles:\n\t7f1 main+0x2 (/bin/shop)\n";
    let perf = upload(&profiles, "perf.txt", perf).await.unwrap();
    assert_eq!(own(&perf), expected);
    // What the server draws can be uploaded again, and is drawn the same.
    let json = upload(&profiles, "a.json", collapsed.drawn.flamebearer.as_bytes())
        .await
        .unwrap();
    assert_eq!(own(&json), expected);
    assert_eq!(json.drawn.flamebearer, collapsed.drawn.flamebearer);
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut zipped, &pprof()).unwrap();
    let zipped = upload(&profiles, "a.gz", &zipped.finish().unwrap())
        .await
        .unwrap();
    assert_eq!(zipped.drawn.profile_types, ["samples", "cpu"]);

    let speedscope = json!({
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": {"frames": [{"name": "main"}, {"name": "work"}]},
        "profiles": [
            {"type": "sampled", "name": "calls", "unit": "none", "startValue": 0, "endValue": 3,
             "samples": [[0, 1], [0]], "weights": [2, 1]},
            {"type": "sampled", "name": "wall", "unit": "microseconds", "startValue": 0,
             "endValue": 3, "samples": [[0]], "weights": [1.5]},
        ],
    });
    let speedscope = upload(&profiles, "a.json", speedscope.to_string().as_bytes())
        .await
        .unwrap();
    assert_eq!(speedscope.drawn.profile_types, ["calls", "wall"]);
    assert_eq!(own(&speedscope), expected);
    let (tenant, limits) = (TenantId::anonymous(), limits());
    let wall = drawing(&limits, Some("wall"));
    let wall = profiles
        .get(&tenant, &speedscope.entry.id, &wall)
        .await
        .unwrap();
    assert_eq!(own(&wall), named(&[("main", 1500)]));

    let listed = profiles.list(&TenantId::anonymous()).await.unwrap();
    assert_eq!(listed.len(), 5);
    assert!(listed.is_sorted_by(|a, b| a.id > b.id));
}

#[tokio::test]
async fn two_profiles_beside_each_other() {
    let profiles = profiles();
    let tenant = TenantId::anonymous();
    let limits = limits();
    let left = upload(&profiles, "l", &pprof()).await.unwrap().entry.id;
    let right = upload(&profiles, "r", b"main;work 5")
        .await
        .unwrap()
        .entry
        .id;
    let diff = async |left: &str, right: &str, profile_type| {
        profiles
            .diff(&tenant, (left, right), &drawing(&limits, profile_type))
            .await
    };
    let both = diff(&left, &right, None).await.unwrap();
    assert_eq!(both.profile_types, ["samples"]);
    let body: Value = serde_json::from_str(&both.flamebearer).unwrap();
    assert_eq!(body["leftTicks"], 6);
    assert_eq!(body["rightTicks"], 5);
    assert_eq!(body["metadata"]["format"], "double");
    let same = diff(&left, &left, Some("cpu")).await.unwrap();
    let body: Value = serde_json::from_str(&same.flamebearer).unwrap();
    assert_eq!(body["leftTicks"], 60);
    // An empty choice is none: the first type that both have, and not the first of each.
    let graph = json!({
        "flamebearer": {"names": ["total", "main"], "levels": [[0, 7, 0, 0], [0, 7, 7, 1]]},
        "metadata": {"name": "cpu", "units": "nanoseconds"},
    });
    let cpu = upload(&profiles, "c", graph.to_string().as_bytes()).await;
    let cpu = cpu.unwrap().entry.id;
    for none in [None, Some("")] {
        let both = diff(&left, &cpu, none).await.unwrap();
        assert_eq!(both.profile_type, "cpu");
        let body: Value = serde_json::from_str(&both.flamebearer).unwrap();
        assert_eq!(body["leftTicks"], 60, "{none:?}");
        assert_eq!(body["rightTicks"], 7, "{none:?}");
    }
    for (left, right, kind) in [
        (
            left.as_str(),
            "01ARZ3NDEKTSV4RRFFQ69G5FAV-x",
            CabinetErrorKind::NotFound,
        ),
        (left.as_str(), "nothing", CabinetErrorKind::Invalid),
    ] {
        assert_eq!(diff(left, right, None).await.unwrap_err().kind, kind);
    }
    let missing = diff(&left, &right, Some("cpu")).await.unwrap_err();
    assert_eq!(missing.kind, CabinetErrorKind::Invalid);
}

#[tokio::test]
async fn what_is_refused() {
    let profiles = profiles();
    let double = json!({
        "flamebearer": {"names": [], "levels": []},
        "metadata": {"format": "double"},
    });
    let outside = json!({"flamebearer": {
        "names": ["total", "a"],
        "levels": [[0, 2, 0, 0], [1, 2, 2, 1]],
    }});
    let bodies: [Vec<u8>; 10] = [
        b"".into(),
        b" \n".into(),
        b"main;work".into(),
        b"main;work x".into(),
        b"main;work 5\nmain;rest -3".into(),
        b"{}".into(),
        b"{".into(),
        b"\x00\x01\x02".into(),
        double.to_string().into(),
        outside.to_string().into(),
    ];
    for body in bodies {
        let error = upload(&profiles, "x", &body).await.unwrap_err();
        assert_eq!(error.kind, CabinetErrorKind::Invalid, "{body:?}: {error}");
    }
    assert!(
        profiles
            .list(&TenantId::anonymous())
            .await
            .unwrap()
            .is_empty()
    );

    let tenant = TenantId::anonymous();
    let now = Timestamp(1);
    let limits = Limits {
        max_profile_size_bytes: 100,
        ..limits()
    };
    let long = "a".repeat(101);
    let no_base64 = "!!!!";
    for text in [long.as_str(), no_base64] {
        let drawing = drawing(&limits, None);
        let refused = profiles.upload(&tenant, ("x", text), &drawing, now);
        assert_eq!(
            refused.await.unwrap_err().kind,
            CabinetErrorKind::Invalid,
            "{text}"
        );
    }
    let text = STANDARD.encode("main 1");
    let kept = upload(&profiles, "x", b"main 1").await.unwrap().entry.id;
    for nodes in [2_000_000, -1] {
        let nodes = Drawing {
            max_nodes: Some(nodes),
            ..drawing(&limits, None)
        };
        let refused = profiles.upload(&tenant, ("x", &text), &nodes, now).await;
        assert_eq!(refused.unwrap_err().kind, CabinetErrorKind::Invalid);
        let refused = profiles.get(&tenant, &kept, &nodes).await;
        assert_eq!(refused.unwrap_err().kind, CabinetErrorKind::Invalid);
        let refused = profiles.diff(&tenant, (&kept, &kept), &nodes).await;
        assert_eq!(refused.unwrap_err().kind, CabinetErrorKind::Invalid);
    }
    let poor = AdHocProfiles::new(profiles.files.clone(), ByteBudget::new("test", 10));
    let drawing = drawing(&limits, None);
    let refused = poor.upload(&tenant, ("x", &text), &drawing, now);
    assert_eq!(
        refused.await.unwrap_err().kind,
        CabinetErrorKind::Unavailable
    );
}

/// Small as it comes, too large decompressed, whatever is in it.
#[tokio::test]
async fn the_size_counts_as_it_is_decompressed() {
    let profiles = profiles();
    let tenant = TenantId::anonymous();
    let limits = Limits {
        max_profile_size_bytes: 100,
        ..limits()
    };
    for form in ["main;work 1\n", "\u{1}"] {
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut zipped, form.repeat(200).as_bytes()).unwrap();
        let text = STANDARD.encode(zipped.finish().unwrap());
        assert!(text.len() <= 100, "{}", text.len());
        let drawing = drawing(&limits, None);
        let refused = profiles.upload(&tenant, ("x", &text), &drawing, Timestamp(1));
        let refused = refused.await.unwrap_err();
        assert_eq!(refused.kind, CabinetErrorKind::Invalid);
        assert!(refused.to_string().contains("100"), "{refused}");
    }
}

/// What is drawn is accounted for until the answer goes, and may be refused although the file could
/// be read.
#[tokio::test]
async fn drawing_is_paid_for_too() {
    let lines: String = (0..200_000).map(|n| format!("f{n} 1\n")).collect();
    let text = STANDARD.encode(&lines);
    let limits = limits();
    let drawing = drawing(&limits, None);
    let tenant = TenantId::anonymous();
    let now = Timestamp(1_700_000_000_123_000_000);
    let reading = memory_for(lines.len());
    let rich = profiles();
    let view = rich.upload(&tenant, ("x", &text), &drawing, now).await;
    let view = view.unwrap();
    let held = view.drawn.memory.bytes();
    assert_eq!(rich.memory.used(), held);
    assert!(
        held > reading * 5 / 4,
        "{held} beside {reading} for reading"
    );
    let id = view.entry.id.clone();
    drop(view);
    assert_eq!(rich.memory.used(), 0);
    let poor = AdHocProfiles::new(rich.files.clone(), ByteBudget::new("test", reading));
    let drawn = poor.get(&tenant, &id, &drawing).await.map(drop);
    let both = poor.diff(&tenant, (&id, &id), &drawing).await.map(drop);
    for refused in [drawn, both] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind, CabinetErrorKind::Unavailable, "{refused}");
    }
    assert_eq!(poor.memory.used(), 0);
}

#[test]
fn a_place_of_many_inlined_frames_is_bounded() {
    let mut profile = ProfileEncoder::new();
    profile.sample_type("samples", "count");
    let function = profile.function(&FunctionRow {
        name: "f",
        ..FunctionRow::default()
    });
    let lines = vec![(function, 1); 20_000];
    let location = profile.location(0, 0, &lines);
    profile.sample(vec![location; 20_000], &[1], &[]);
    let error = draw(&profile.finish(), None, 0).unwrap_err();
    assert_eq!(error.kind, CabinetErrorKind::Invalid);
    assert!(error.to_string().contains("400000000 frames"), "{error}");
}

#[tokio::test]
async fn the_newest_stay() {
    let profiles = profiles();
    let tenant = TenantId::anonymous();
    let limits = limits();
    let text = STANDARD.encode("main 1");
    let drawing = drawing(&limits, None);
    for n in 0..PROFILES_MAX + 3 {
        let now = Timestamp(i64::try_from(n + 1).unwrap() * 1_000_000);
        let uploaded = profiles.upload(&tenant, ("x", &text), &drawing, now);
        uploaded.await.unwrap();
    }
    let listed = profiles.list(&tenant).await.unwrap();
    assert_eq!(listed.len(), PROFILES_MAX);
    assert_eq!(listed.last().unwrap().uploaded_at_ms, 4);
}
