import pytest
@pytest.mark.parametrize(("p","o","s"), [("fp32",21,False),("fp32",23,False),("fp16",23,True),("int8",20,False),("int8",23,True),("fp32",24,False),("auto",None,False)])
def test_x(make_model, tmp_path, p, o, s):
    from ga2clip_export import export
    from ga2clip_export.runtime import open_bundle
    out = export.export_model(make_model("maple"), tmp_path/"b", precision=p, opset=o, static=s)
    c = open_bundle(out).card
    print("RESULT", p, o, s, c.precision, c.onnx.opset, c.agreement.outputs["video_features"].min_cosine, sorted(q.name for q in tmp_path.iterdir()), sorted(q.name for q in out.iterdir()))
