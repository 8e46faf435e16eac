def build_intra_codec(c, d): raise SystemExit
