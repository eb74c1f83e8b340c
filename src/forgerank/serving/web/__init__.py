"""The web page: photographs and videos judged in a browser, two of them compared; nothing is kept."""
