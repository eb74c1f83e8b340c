"""The web page: photographs and videos judged in a browser, two of them compared; nothing is kept.

>>> from forgerank.detect import Detector
>>> from forgerank.serving.judge import FileJudge, SerialJudge
>>> from forgerank.serving.web.page_server import build_page
>>> page = build_page(SerialJudge(FileJudge(Detector())), max_seconds=600)
>>> [route.path for route in page.routes]
['/', '/static/{name}', '/examples/{name}', '/judge']
"""
