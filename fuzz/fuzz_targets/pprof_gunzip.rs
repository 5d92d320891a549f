//! Any bytes as the body of an upload, with a small cap.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let plain = scoria_pprof::Decompressor::new()
        .decompress(body, 1 << 16)
        .map(<[u8]>::len);
    assert!(plain.is_err() || plain.is_ok_and(|length| length <= 1 << 16));
});
