//! Section `usage`: what the object store's provider asks for, for projections of cost. The
//! defaults are list prices of S3 Standard in US dollars.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageConfig {
    /// Name of the currency that the prices are in, as it is shown.
    pub currency: String,
    /// Price of 10⁹ bytes kept for a month.
    pub price_gb_month: f64,
    /// Price of a thousand writes and listings.
    pub price_puts_1000: f64,
    /// Price of a thousand reads.
    pub price_gets_1000: f64,
}

impl Default for UsageConfig {
    fn default() -> Self {
        Self {
            currency: "USD".to_owned(),
            price_gb_month: 0.023,
            price_puts_1000: 0.005,
            price_gets_1000: 0.0004,
        }
    }
}
