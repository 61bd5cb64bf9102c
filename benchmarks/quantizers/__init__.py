"""What converting and quantizing real networks costs, here and with two other quantizers."""
