"""The REST service: photographs answered at once, videos and archives as jobs that survive a crash.

>>> from pathlib import Path
>>> from tempfile import mkdtemp
>>> from forgerank.serving.service.app import create_app
>>> from forgerank.serving.service.service_settings import ServiceSettings
>>> app = create_app(ServiceSettings(data=Path(mkdtemp()), require_keys=False, workers=0))
>>> "/v1/detect" in app.openapi()["paths"]
True
"""
