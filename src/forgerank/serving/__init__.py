"""The detector for many: a service, a web page, scans of whole archives."""
