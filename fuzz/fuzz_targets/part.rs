//! Parts, as a distributor sends them: whatever is read must be inside of its tables.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scoria_model::part::{NONE, PartView};

fuzz_target!(|data: &[u8]| {
    let Ok(view) = PartView::parse(data) else {
        return;
    };
    let strings = [
        view.mapping_filename,
        view.mapping_build_id,
        view.function_name,
        view.function_system_name,
        view.function_filename,
    ];
    for text in strings.into_iter().flatten() {
        view.string(text);
    }
    for series in 0..view.series_end.len() as u32 {
        view.series_labels(series);
    }
    for kind in 0..view.kinds() as u32 {
        view.profile_type(kind);
    }
    for frame in view.frame {
        let frame = frame as usize;
        let mapping = view.location_mapping.get(frame);
        if mapping != NONE {
            view.mapping_start.get(mapping as usize);
        }
        view.location_address.get(frame);
        for line in view.location_lines_end.span(frame) {
            view.line_number.get(line);
            let function = view.line_function.get(line);
            if function != NONE {
                view.function_start_line.get(function as usize);
            }
        }
    }
    for (write, _) in view.keys().enumerate() {
        for profile in view.write_end.span(write) {
            view.profile_time.get(profile);
            for sample in view.profile_samples_end.span(profile) {
                view.stack_end.span(view.sample_stack.get(sample) as usize);
                view.sample_value.get(sample);
                view.span(sample);
                view.trace(sample);
            }
        }
    }
});
