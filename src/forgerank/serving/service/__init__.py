"""The REST service: photographs answered at once, videos and archives as jobs that survive a crash."""
