"""What an export may be, by name; for those who do without torch."""

FORMATS = ("hf", "gguf", "native")
DTYPES = ("fp32", "bf16", "f16")
