//! What a client can read, as it says in `Accept`: a parameter of any of its media ranges.

use connectrpc::ErrorCode;
use http::HeaderMap;
use http::header::ACCEPT;
use scoria_query::request::NameForm;

use super::fault::Fault;

const CAPABILITY: &str = "allow-utf8-labelnames";

/// Which label names the client can read.
///
/// # Errors
/// The header is no list of media ranges.
pub(super) fn name_form(headers: &HeaderMap) -> Result<NameForm, Fault> {
    let mut form = NameForm::Plain;
    for value in headers.get_all(ACCEPT) {
        let text = value
            .to_str()
            .map_err(|_| malformed("it holds characters that no header has"))?;
        for range in ranges(text)? {
            if says_any(&range)? {
                form = NameForm::Any;
            }
        }
    }
    Ok(form)
}

fn malformed(why: &str) -> Fault {
    Fault::new(
        ErrorCode::InvalidArgument,
        format!("the header Accept cannot be read: {why}"),
    )
}

/// The parts between commas and, inside them, between semicolons; quoted text holds either.
fn ranges(text: &str) -> Result<Vec<Vec<String>>, Fault> {
    let mut ranges = vec![vec![String::new()]];
    let mut quoted = false;
    let mut escaped = false;
    for c in text.chars() {
        let range = match ranges.last_mut() {
            Some(range) => range,
            None => return Ok(Vec::new()),
        };
        match c {
            _ if escaped => {
                escaped = false;
                push(range, c);
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => ranges.push(vec![String::new()]),
            ';' if !quoted => range.push(String::new()),
            c => push(range, c),
        }
    }
    if quoted {
        return Err(malformed("a quote is not closed"));
    }
    Ok(ranges)
}

fn push(range: &mut [String], c: char) {
    if let Some(part) = range.last_mut() {
        part.push(c);
    }
}

/// Whether one media range carries the capability, switched on.
fn says_any(range: &[String]) -> Result<bool, Fault> {
    let Some((media, parameters)) = range.split_first() else {
        return Ok(false);
    };
    let media = media.trim();
    if media.is_empty() && parameters.is_empty() {
        return Ok(false);
    }
    let token = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let typed = media == "*"
        || media
            .split_once('/')
            .is_some_and(|(a, b)| token(a) && token(b));
    if !typed {
        return Err(malformed(&format!("{media:?} is no media range")));
    }
    let mut any = false;
    for parameter in parameters {
        let parameter = parameter.trim();
        if parameter.is_empty() {
            continue;
        }
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(malformed(&format!("{parameter:?} is no parameter")));
        };
        if name.trim().eq_ignore_ascii_case(CAPABILITY) {
            any |= match value.trim() {
                "true" | "1" | "t" | "T" | "TRUE" | "True" => true,
                "false" | "0" | "f" | "F" | "FALSE" | "False" => false,
                other => return Err(malformed(&format!("{CAPABILITY} is {other:?}, not a bool"))),
            };
        }
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(values: &[&str]) -> Result<NameForm, u16> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, value.parse().unwrap());
        }
        name_form(&headers).map_err(|fault| fault.status().as_u16())
    }

    #[test]
    fn table() {
        let any = [
            &["*/*; allow-utf8-labelnames=true"][..],
            &["text/html, application/json;q=0.9;allow-utf8-labelnames=1"],
            &["text/html", "*/*;Allow-UTF8-Labelnames=\"true\""],
        ];
        for values in any {
            assert_eq!(form(values), Ok(NameForm::Any), "{values:?}");
        }
        let plain = [
            &[][..],
            &["*/*"],
            &[""],
            &["*/*;allow-utf8-labelnames=false"],
            &["text/html, image/gif, *; q=.2, */*; q=.2"],
            &["text/x;p=\"a,b;allow-utf8-labelnames=true\""],
        ];
        for values in plain {
            assert_eq!(form(values), Ok(NameForm::Plain), "{values:?}");
        }
        for bad in [
            "nonsense",
            "*/*;q",
            "a/b;x=\"open",
            "*/*;allow-utf8-labelnames=perhaps",
        ] {
            assert_eq!(form(&[bad]), Err(400), "{bad}");
        }
    }
}
