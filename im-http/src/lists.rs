//! List headers (RFC 9110 section 5.6.1): several lines of one name are one list.

use http::HeaderMap;
use http::header::HeaderName;

/// The elements of a list header, over all its lines and in their order.
///
/// Commas inside quoted strings part nothing. Empty elements are left out, and so are elements that are no
/// ASCII text: neither is a name that this crate could know.
pub fn list(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> {
    let lines = headers.get_all(name).iter().flat_map(|line| split(line.as_bytes(), b','));
    lines.filter_map(text)
}

/// Whether a list header has this element, whatever its case.
pub fn lists(headers: &HeaderMap, name: &HeaderName, element: &str) -> bool {
    list(headers, name).any(|found| found.eq_ignore_ascii_case(element))
}

/// What a list of preferences names, in lower case, each with its weight (RFC 9110 section 12.4.2). A weight that
/// cannot be read is none.
pub(crate) fn preferences(
    headers: &HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = (String, f32)> {
    list(headers, name).map(|element| {
        let mut parts = split(element.as_bytes(), b';').into_iter().filter_map(text);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.eq_ignore_ascii_case("q").then(|| value.to_owned())
        });
        let weight = weight.map_or(1.0, |text| text.parse().unwrap_or(0.0));
        (name, if (0.0..=1.0).contains(&weight) { weight } else { 0.0 })
    })
}

/// Splits at a byte, but not inside quoted strings (RFC 9110 section 5.6.4).
fn split(line: &[u8], at: u8) -> Vec<&[u8]> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (index, byte) in line.iter().enumerate() {
        match *byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if byte == at && !quoted => {
                parts.push(&line[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&line[start..]);
    parts
}

/// An element without the blanks around it, if it is ASCII text and not empty.
fn text(element: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(element.trim_ascii()).ok()?;
    (!text.is_empty() && text.is_ascii()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, CONNECTION, HeaderValue};

    use super::*;

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let lines = lines.iter().map(|line| HeaderValue::from_bytes(line.as_bytes()).unwrap());
        lines.map(|line| (name.clone(), line)).collect()
    }

    #[test]
    fn several_lines_make_one_list() {
        for lines in [
            &["keep-alive, Upgrade"][..],
            &["keep-alive", "Upgrade"],
            &[", keep-alive ,\t,", "", "Upgrade,"],
            &["keep-alive, \u{fc}", "Upgrade"],
        ] {
            let headers = headers(&CONNECTION, lines);
            let found: Vec<_> = list(&headers, &CONNECTION).collect();
            assert_eq!(found, ["keep-alive", "Upgrade"], "{lines:?}");
            assert!(lists(&headers, &CONNECTION, "upgrade"), "{lines:?}");
        }
        assert_eq!(list(&HeaderMap::new(), &CONNECTION).next(), None);
    }

    #[test]
    fn quoted_strings_stay_whole() {
        let headers = headers(&ACCEPT, &[r#"a/b;x="1, \"2;q=0";q=0.5, c/d"#]);
        let found: Vec<_> = preferences(&headers, &ACCEPT).collect();
        assert_eq!(found, [("a/b".to_owned(), 0.5), ("c/d".to_owned(), 1.0)]);
    }
}
